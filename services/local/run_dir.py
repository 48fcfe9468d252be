"""The folder of a running cluster: logs, and the secret that its processes share. Nobody else can read it."""

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from common.config.config import Config
from common.core.entropy import Entropy
from common.core.errors import StartupError
from services.local.topology import ROOT

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDir:
    """`fleeting` is what must not outlive the cluster: the whole folder, or the secret in a folder that was given."""

    path: Path
    secret_file: Path
    fleeting: Path | None
    own_secret: str = field(default="", repr=False)
    """What we wrote there; empty where the secret is the operator's."""

    @classmethod
    @contextmanager
    def taken(cls, config: Config, entropy: Entropy) -> Iterator["RunDir"]:
        """A folder with mode 0700, with a secret of mode 0600 where none is configured, ours until the block ends: a
        second cluster there would write another secret. Cleaners of temporary files leave a locked folder alone.

        Raises StartupError when the folder cannot be used.
        """
        path = _folder(config.local.run_dir)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _is_taken(descriptor):
                raise StartupError(message=f"local.run_dir {path} belongs to a cluster that runs: take another folder")
            yield cls._made(path, config, entropy)
        finally:
            os.close(descriptor)

    @classmethod
    def _made(cls, path: Path, config: Config, entropy: Entropy) -> "RunDir":
        given = config.cluster.secret_file
        secret_file = ROOT / given if given else path / "secret"
        own_secret = "" if given else f"{entropy.bits(8 * SECRET_BYTES):0{2 * SECRET_BYTES}x}\n"
        if own_secret:
            try:
                _write_secret(secret_file, own_secret)
            except OSError as error:
                raise StartupError(message=f"{secret_file} cannot be written: {error.strerror}") from error
        whole = None if config.local.run_dir else path
        fleeting = whole or (None if given else secret_file)
        return cls(path=path, secret_file=secret_file, fleeting=fleeting, own_secret=own_secret)

    def mend(self) -> None:
        """Make again what a cleaner of temporary files took away: whoever starts needs it.

        Raises OSError, also where somebody else has made a folder of that name.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.own_secret or self.secret_file.exists():
            return
        if self.path.stat().st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, f"{self.path} is somebody else's")
        _write_secret(self.secret_file, self.own_secret)


def _folder(given: str) -> Path:
    if not given:
        return Path(tempfile.mkdtemp(prefix="baton-"))
    folder = ROOT / given
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(message=f"local.run_dir {folder} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise StartupError(message=f"local.run_dir {folder} cannot be written to")
    return folder


def _is_taken(descriptor: int) -> bool:
    """Takes it where nobody has. File systems that know no locks keep nobody apart."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno == errno.EWOULDBLOCK
    return False


def _write_secret(file: Path, secret: str) -> None:
    """A new file, whole or not there: whatever mode an older one had is not inherited."""
    begun = file.with_name(f"{file.name}.new")
    begun.unlink(missing_ok=True)
    begun.touch(mode=0o600, exist_ok=False)
    begun.write_text(secret)
    begun.replace(file)
