"""The configuration that a command's flags ask for."""

from pathlib import Path

from common.config.config import Config
from common.config.environment import environment
from common.config.loader import load
from common.core.errors import BatonError
from services.local.anchor import anchored
from services.local.failure import fail
from services.local.topology import Overrides


def overrides_of(config: Path | None, settings: list[str] | None, **local: object) -> Overrides:
    """--config and --set, and the flags that stand for a key of their own."""
    keys = {"model": "model.path", "prefill": "local.prefill", "decode": "local.decode", "routers": "local.routers"}
    given = [f"{keys[name]}={value}" for name, value in local.items() if value is not None]
    return Overrides(file=None if config is None else config.resolve(), settings=(*(settings or ()), *given))


def anchored_overrides(overrides: Overrides) -> Overrides:
    """For commands that open what paths name: they and their processes have other working directories."""
    return anchored(overrides, load_config(overrides), Path.cwd())


def load_config(overrides: Overrides) -> Config:
    """What is wrong with it is told, and ends the command."""
    try:
        return load(overrides.file, environment(), overrides.settings)
    except BatonError as error:
        raise fail(error) from error
