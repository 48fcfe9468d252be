"""Flags that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from services.local.ports import FIRST_ROUTER_PORT

DEFAULT_ROUTER = f"127.0.0.1:{FIRST_ROUTER_PORT}"

MAX_TIMEOUT_S = 31_536_000.0
"""Chosen: a year. gRPC takes some 300 of them for none at all, and says that the deadline has passed."""

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file with values of `baton config`.", show_default=False),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one value; repeatable.", show_default=False),
]
Router = Annotated[str, typer.Option(envvar="BATON_ROUTER", metavar="HOST:PORT", help="Address of a router.")]
RequestName = Annotated[str, typer.Argument(metavar="REQUEST_ID", help="As `baton generate` prints it.")]
SamplingFields = Annotated[
    list[str] | None,
    typer.Option(
        "--sampling",
        metavar="FIELD=VALUE",
        help="Any sampling field by its name: min_p=0.1, logprobs=5, logit_bias=7:-100; repeatable.",
        show_default=False,
    ),
]
