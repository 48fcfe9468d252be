"""How a command fails: one message on standard error that says what to do, and an exit code."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer
from rich.console import Console

from common.core.errors import BatonError, InvalidRequest
from services.local.exits import Exit, exit_for
from services.local.streams import mute_output

T = TypeVar("T")

errors = Console(stderr=True)


def run(work: Coroutine[Any, Any, T]) -> T:
    """A command's coroutine; errors of the tree become a message and an exit code."""
    try:
        return asyncio.run(work)
    except BatonError as error:
        raise fail(error) from error
    except BaseExceptionGroup as group:
        found, _ = group.split(BatonError)
        if found is None:
            raise
        raise fail(_first(found)) from group
    except KeyboardInterrupt as error:
        raise typer.Exit(Exit.INTERRUPTED) from error
    except BrokenPipeError as error:
        mute_output()  # the reader, `head` say, has seen enough
        raise typer.Exit(Exit.FAILED) from error


def fail(error: BatonError) -> typer.Exit:
    """Print the error, each wrong field once; what to raise then."""
    errors.print(f"baton: {error.message}", style="red", highlight=False, markup=False, soft_wrap=True)
    if isinstance(error, InvalidRequest):
        for violation in error.violations:
            told = f"{violation.field}: {violation.description}"
            if told not in error.message:
                errors.print(f"  {told}", highlight=False, markup=False, soft_wrap=True)
    return typer.Exit(exit_for(error))


def _first(group: BaseExceptionGroup[BatonError]) -> BatonError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
