"""Exit codes of `baton`, the same for every command."""

from enum import IntEnum

from common.core.errors import (
    BatonError,
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Refused,
    StartupError,
    Unavailable,
)


class Exit(IntEnum):
    """What a script can act on."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    TIMEOUT = 5
    NOT_FOUND = 6
    UNHEALTHY = 7
    CANNOT_START = 78
    INTERRUPTED = 130


EXIT_HELP = """Exit codes: 0 ok, 1 failed, 2 wrong usage or an invalid request, 3 no router or no worker answers,
4 refused because of load (retry later), 5 deadline exceeded, 6 not found, 7 `doctor` found a fault,
78 configuration or model cannot be used, 130 interrupted."""


def exit_for(error: BatonError) -> Exit:
    """The code for an error of the tree."""
    match error:
        case InvalidRequest():
            return Exit.USAGE
        case Unavailable():
            return Exit.UNREACHABLE
        case Refused():
            return Exit.REFUSED
        case DeadlineExceeded():
            return Exit.TIMEOUT
        case NotFound():
            return Exit.NOT_FOUND
        case StartupError():
            return Exit.CANNOT_START
        case Cancelled():
            return Exit.INTERRUPTED
        case _:
            return Exit.FAILED
