"""`baton calibrate`: a live cluster's own figures, for `baton simulate`."""

from pathlib import Path
from typing import Annotated

import typer

from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy
from services.local import calibrate as calibrate_command
from services.local.client import router_client
from services.local.failure import run
from services.local.flags import DEFAULT_ROUTER, ConfigFile, Router, Settings
from services.local.given import load_config, overrides_of
from services.local.screen import console


def calibrate(
    out: Annotated[Path, typer.Option(help="Where to write what was measured.")] = Path("calibration.json"),
    seconds: Annotated[float, typer.Option(min=1.0, help="How long to press the cluster.")] = 30.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests per second.")] = 2.0,
    check: Annotated[bool, typer.Option("--check", help="Again, against the simulator.")] = False,
    router: Router = DEFAULT_ROUTER,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """Measure a live cluster for `baton simulate`."""
    loaded = load_config(overrides_of(config, set_))
    effort = calibrate_command.Effort(seconds=seconds, per_s=rate, check=check)

    async def measure() -> None:
        async with router_client(router) as client:
            await calibrate_command.calibrate(
                client, effort, out, config=loaded, console=console, clock=SystemClock(), entropy=SystemEntropy()
            )

    run(measure())
