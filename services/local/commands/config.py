"""`baton config`: every value and where it comes from."""

from typing import Annotated

import typer

from services.local.flags import ConfigFile, Settings
from services.local.given import load_config, overrides_of
from services.local.screen import console
from services.local.settings import print_settings


def show_config(
    _print: Annotated[bool, typer.Option("--print", help="Print every value with its origin (it always does).")] = True,
    reasons: Annotated[bool, typer.Option("--reasons", help="Also why a default is what it is.")] = False,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """Show every configuration value with its origin."""
    print_settings(load_config(overrides_of(config, set_)), console, with_reasons=reasons)
