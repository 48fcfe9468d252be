"""A library's seal: a file beside it with the digest of its bytes. One that is cut off or zeroed ends who runs it."""

import hashlib
import os
from pathlib import Path

SUFFIX = ".seal"


def seal(library: Path) -> Path:
    """Write the seal of a library that was just made, and see to it that both are on the disk: a machine that loses its
    power leaves files of the right name and length with nothing in them.
    """
    written = _seal_of(library)
    written.write_text(_digest(library))
    for path in (library, written):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    return written


def is_whole(library: Path) -> bool:
    """Whether its bytes are those that were sealed. One without a seal, from an older checkout, counts as whole."""
    try:
        return _seal_of(library).read_text() == _digest(library)
    except FileNotFoundError:
        return library.exists()
    except (OSError, ValueError):  # a seal, or a library, that nobody can read
        return False


def _seal_of(library: Path) -> Path:
    return library.with_name(library.name + SUFFIX)


def _digest(library: Path) -> str:
    with library.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
