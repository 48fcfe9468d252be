"""`baton doctor`: every part and every link."""

import typer

from services.local import doctor as doctor_command
from services.local.exits import Exit
from services.local.failure import run
from services.local.flags import DEFAULT_ROUTER, ConfigFile, Router, Settings
from services.local.given import anchored_overrides, load_config, overrides_of
from services.local.screen import console


def doctor(router: Router = DEFAULT_ROUTER, config: ConfigFile = None, set_: Settings = None) -> None:
    """Check every part of a cluster and measure every link."""
    loaded = load_config(anchored_overrides(overrides_of(config, set_)))
    is_healthy = run(doctor_command.doctor(loaded, router, console=console))
    raise typer.Exit(Exit.OK if is_healthy else Exit.UNHEALTHY)
