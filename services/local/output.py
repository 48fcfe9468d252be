"""Files that a command writes at its end. They are looked at before the work begins, so that none is done in vain."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.core.errors import FieldViolation, InvalidRequest
from services.simulator.plots import figures

PICTURES = (".png", ".svg")


def check_output(file: Path | None, flag: str) -> None:
    """Raises InvalidRequest where nothing can be written there."""
    if file is None:
        return
    if file.is_dir():
        raise _refused(flag, f"{file} is a folder")
    if not file.parent.is_dir():
        raise _refused(flag, f"there is no folder {file.parent}")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise _refused(flag, f"{file} may not be written")


def check_picture(file: Path | None) -> None:
    """The same for `--plot`. Raises StartupError where the library that draws is missing."""
    check_output(file, "--plot")
    if file is None:
        return
    if file.suffix.lower() not in PICTURES:
        raise _refused("--plot", f"a picture ends in {' or '.join(PICTURES)}, not in {file.suffix!r}")
    figures()


@contextmanager
def writing(flag: str) -> Iterator[None]:
    """Raises InvalidRequest for what could not be foreseen: the disk is full."""
    try:
        yield
    except OSError as error:
        raise _refused(flag, f"{error.filename or 'the file'} cannot be written: {error.strerror}") from error


def _refused(flag: str, why: str) -> InvalidRequest:
    return InvalidRequest(message=f"{flag}: {why}", violations=(FieldViolation(field=flag, description=why),))
