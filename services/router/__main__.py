"""`python -m services.router --name NAME [--config FILE] [--set section.key=value]...`"""

import argparse
import asyncio
import sys
from pathlib import Path

from common.config.environment import environment
from common.config.loader import load
from common.core.errors import BatonError, StartupError
from common.observe.announce import Announcement, Phase, announce
from services.router.app import run_router

EXIT_OK = 0
EXIT_FAILED = 70
EXIT_CANNOT_START = 78
"""Configuration, model or address: starting again without a change would end the same way."""


def main() -> int:
    """Serve until told to stop."""
    arguments = _parse()
    try:
        config = load(arguments.config, environment(), arguments.set)
        asyncio.run(run_router(config, arguments.name))
    except StartupError as error:
        return _say(arguments.name, error, EXIT_CANNOT_START)
    except BatonError as error:
        return _say(arguments.name, error, EXIT_FAILED)
    except BaseExceptionGroup as group:  # what a task group was told by one of its tasks
        found = group.subgroup(StartupError)
        if found is None:
            raise
        return _say(arguments.name, _first(found), EXIT_CANNOT_START)
    return EXIT_OK


def _first(group: BaseExceptionGroup[StartupError]) -> StartupError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _say(name: str, error: BatonError, status: int) -> int:
    announce(Announcement(name=name, phase=Phase.FAILED, detail=error.message))
    sys.stderr.write(f"{name}: {error.message}\n")
    return status


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.router", description="A router: what clients call.")
    parser.add_argument("--name", default="router-0", help="unique within the cluster; survives restarts")
    parser.add_argument("--config", type=Path, help="a TOML file; all processes of a cluster share one")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="overrides the file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
