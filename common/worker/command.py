"""The command line of a worker process, and its exit codes."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TypeVar

from common.config.environment import environment
from common.config.loader import load
from common.core.errors import BatonError, StartupError
from common.observe.announce import Announcement, Phase, announce
from common.worker.boot import Assembly, run_worker

Event = TypeVar("Event")

EXIT_OK = 0
EXIT_FAILED = 70
"""The step loop failed or this incarnation was superseded: the supervisor starts another one."""
EXIT_CANNOT_START = 78
"""Configuration or model: starting again without a change would end the same way."""


def main(assembly: Assembly[Event]) -> int:
    """Run until told to stop. The exit code tells a supervisor whether another start may help."""
    arguments = _parse(assembly.role.value)
    try:
        config = load(arguments.config, environment(), arguments.set)
        asyncio.run(run_worker(config, arguments.name, assembly))
    except StartupError as error:
        return _say(arguments.name, error, EXIT_CANNOT_START)
    except BatonError as error:
        return _say(arguments.name, error, EXIT_FAILED)
    return EXIT_OK


def _say(name: str, error: BatonError, status: int) -> int:
    announce(Announcement(name=name, phase=Phase.FAILED, detail=error.message))
    sys.stderr.write(f"{name}: {error.message}\n")
    return status


def _parse(role: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m services.{role}", description=f"A {role} worker.")
    parser.add_argument("--name", default=f"{role}-0", help="unique within the cluster; survives restarts")
    parser.add_argument("--config", type=Path, help="a TOML file; all processes of a cluster share one")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="overrides the file")
    return parser.parse_args()
