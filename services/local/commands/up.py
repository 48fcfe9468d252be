"""`baton up`: a cluster until Ctrl-C."""

from pathlib import Path
from typing import Annotated

import typer

from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy
from services.local import up as up_command
from services.local.failure import run
from services.local.flags import ConfigFile, Settings
from services.local.given import anchored_overrides, load_config, overrides_of
from services.local.ports import FIRST_ROUTER_PORT
from services.local.screen import console


def up(
    model: Annotated[Path | None, typer.Option(help="Hugging Face folder; without it, the demo model.")] = None,
    prefill: Annotated[int | None, typer.Option(min=0, help="How many prefill workers.")] = None,
    decode: Annotated[int | None, typer.Option(min=1, help="How many decode workers.")] = None,
    routers: Annotated[int | None, typer.Option(min=1, help="How many routers.")] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65000, help="Port of the first router; one that is taken is replaced.")
    ] = FIRST_ROUTER_PORT,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """Start a cluster here and keep it running until Ctrl-C."""
    given = overrides_of(config, set_, model=model, prefill=prefill, decode=decode, routers=routers)
    overrides = anchored_overrides(given)
    loaded, clock, entropy = load_config(overrides), SystemClock(), SystemEntropy()
    raise typer.Exit(
        run(up_command.up(loaded, overrides, console=console, clock=clock, entropy=entropy, first_router_port=port))
    )
