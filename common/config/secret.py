"""The cluster secret: keys of prefix scopes, tickets and Redis passwords are derived from it. Never logged."""

from pathlib import Path

from common.config.sections.cluster import ClusterSection
from common.core.errors import StartupError

MIN_BYTES = 16


def read_secret(cluster: ClusterSection) -> bytes:
    """The bytes in `cluster.secret_file`, hexadecimal or raw; empty when no file is configured.

    Raises StartupError when the file cannot be read or is too short.
    """
    if not cluster.secret_file:
        return b""
    try:
        text = Path(cluster.secret_file).read_bytes().strip()
    except OSError as error:
        raise StartupError(message=f"cluster.secret_file cannot be read: {error.strerror}") from error
    try:
        secret = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        secret = text
    if len(secret) < MIN_BYTES:
        raise StartupError(message=f"cluster.secret_file holds {len(secret)} bytes, at least {MIN_BYTES} are needed")
    return secret
