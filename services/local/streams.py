"""Standard streams as a command finds them: closed, full, read no more, or unable to spell what a model wrote."""

import errno
import os
import sys
from typing import TextIO

UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""What writing fails with where the place is at fault, not the program."""


def mend_streams() -> None:
    """Before anything else is opened. A closed stream leads nowhere; what an encoding lacks becomes a question mark."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        _spell_all(stream)


def mute_output() -> None:
    """Nobody reads it any more. Python would complain once more when it flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def why_unwritable(error: BaseException) -> str:
    """Why output could not be written, where that is all that went wrong; else empty."""
    if isinstance(error, BaseExceptionGroup):
        found = [why_unwritable(each) for each in error.exceptions]
        return found[0] if all(found) else ""
    if not isinstance(error, OSError) or error.errno not in UNWRITABLE or error.filename is not None:
        return ""
    return os.strerror(error.errno)


def _spell_all(stream: TextIO) -> None:
    reconfigure = getattr(stream, "reconfigure", None)  # tests put other streams there
    if reconfigure is not None:
        reconfigure(errors="replace")
