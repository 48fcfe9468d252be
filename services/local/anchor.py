"""Where relative paths of the configuration begin: where the person is who gave them.

The processes of a cluster have the checkout as their working directory, where the defaults lie.
"""

from dataclasses import replace
from pathlib import Path

from common.config.config import DEFAULT_ORIGIN, Config
from common.config.schema import KEYS
from services.local.topology import Overrides

UNIT = "path"


def anchored(overrides: Overrides, config: Config, here: Path) -> Overrides:
    """The same with an absolute path for every relative one that is nobody's default: of --set, file or environment."""
    given = [key for key in KEYS.values() if key.knob.unit == UNIT and config.origin(key.path) != DEFAULT_ORIGIN]
    values = {key.path: str(getattr(getattr(config, key.section), key.name)) for key in given}
    moved = [
        f"{key}={(here / value).resolve()}" for key, value in values.items() if value and not value.startswith("/")
    ]
    return replace(overrides, settings=(*overrides.settings, *moved))
