"""`baton replay`: recorded decisions again."""

from pathlib import Path
from typing import Annotated

import typer

from common.core.errors import BatonError
from services.local import replay as replay_command
from services.local.exits import Exit
from services.local.failure import fail
from services.local.screen import console


def replay(
    log: Annotated[Path, typer.Argument(help="A router's decision log: <router.decision_log>/<router>.jsonl.")],
    policy: Annotated[
        str, typer.Option(metavar="NAME", help=f"One of {', '.join(replay_command.POLICIES)}.")
    ] = "recorded",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Another weight; repeatable.")
    ] = None,
) -> None:
    """Make recorded decisions again, as they were or otherwise."""
    try:
        is_same = replay_command.replay_log(log, policy, set_ or (), console)
    except BatonError as error:
        raise fail(error) from error
    raise typer.Exit(Exit.OK if is_same else Exit.FAILED)
