"""What an error leads to after it was raised, and must not: whoever keeps it.

Its trace has the frames that it passed, with all that they hold: a request's body, its tokens, buffers. Where one of
them leads back to the error, nothing of it is freed before somebody looks for garbage, which services do once in
thousands of requests; by then refusals alone may have taken all memory. So whoever keeps an error keeps it without its
trace, and whoever raises a kept one raises another.
"""

from dataclasses import replace
from types import TracebackType
from typing import TypeVar

from common.core.errors import BatonError

Error = TypeVar("Error", bound=BaseException)
OurError = TypeVar("OurError", bound=BatonError)


def sever(error: BaseException) -> None:
    """Cuts it off from what it was raised amid. A deadline that passed leads to the task in which it was set (Python
    3.11), and so to what that task ends with."""
    error.__cause__ = error.__context__ = None


def kept(error: Error) -> Error:
    """The same error, for whoever keeps it: it tells what went wrong, not where."""
    sever(error)
    error.__traceback__ = None
    return error


def again(error: OurError) -> OurError:
    """Another one that says the same, for whoever raises what somebody keeps."""
    return replace(error)


class Traceless:
    """Whatever leaves the block, a cancellation above all, leaves without the frames that it passed: in Python 3.11 a
    task group that is cancelled and its cancellation hold each other."""

    async def __aenter__(self) -> None:
        return

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            kept(error)
