"""`baton demo`: the whole relay once."""

import typer

from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy
from services.local import demo as demo_command
from services.local.failure import run
from services.local.flags import ConfigFile, Settings
from services.local.given import anchored_overrides, load_config, overrides_of
from services.local.ports import FIRST_ROUTER_PORT
from services.local.screen import console


def demo(config: ConfigFile = None, set_: Settings = None) -> None:
    """Start a cluster, stream one answer, show its times, stop."""
    overrides = anchored_overrides(overrides_of(config, set_))
    loaded, clock, entropy, port = load_config(overrides), SystemClock(), SystemEntropy(), FIRST_ROUTER_PORT
    raise typer.Exit(
        run(demo_command.demo(loaded, overrides, console=console, clock=clock, entropy=entropy, first_router_port=port))
    )
