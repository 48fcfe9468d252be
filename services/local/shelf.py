"""Commands that are imported when they are asked for: each needs its part of the house, and all take seconds."""

from collections import UserDict
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from services.local.help import EXAMPLES


class Shelf(UserDict[str, Any]):
    """Name -> command; what is not yet imported lies there as "module:function". Only whoever takes one imports it:
    to look through all, as --help does, takes all.
    """

    def __getitem__(self, name: str) -> Any:
        found = self.data[name]
        if isinstance(found, str):
            module, _, attribute = found.partition(":")
            found = self.data[name] = _command(name, getattr(import_module(module), attribute))
        return found


def shelved(homes: Mapping[str, str]) -> type[TyperGroup]:
    """The group of these commands, for `typer.Typer(cls=...)`."""

    class ShelvedGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = Shelf(homes)

    return ShelvedGroup


def _command(name: str, found: Any) -> Any:
    """Of a function with flags, or of an app with commands of its own."""
    if isinstance(found, typer.Typer):
        return typer.main.get_group(found)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    epilog = f"\b\n{EXAMPLES[name]}" if name in EXAMPLES else None
    alone.command(name=name, epilog=epilog)(found)
    return typer.main.get_command(alone)
