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


MEANINGS = {
    Exit.OK: "ok",
    Exit.FAILED: "failed",
    Exit.USAGE: "wrong usage, or a request that the router calls invalid",
    Exit.UNREACHABLE: "no router or no worker answers",
    Exit.REFUSED: "refused because of load: retry later",
    Exit.TIMEOUT: "deadline exceeded",
    Exit.NOT_FOUND: "no such request, no such model",
    Exit.UNHEALTHY: "`baton doctor` found a fault",
    Exit.CANNOT_START: "configuration, model or port cannot be used",
    Exit.INTERRUPTED: "interrupted",
}


def exit_help() -> str:
    """The table for --help."""
    return "Exit codes:\n" + "\n".join(f"{code.value:>4}  {meaning}" for code, meaning in MEANINGS.items())


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
