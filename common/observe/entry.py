"""From a command line to a running process, and its exit codes: the same for every service."""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from common.config.config import Config
from common.config.environment import environment
from common.config.loader import load
from common.core.errors import BatonError, StartupError
from common.observe.announce import Announcement, Phase, announce
from common.observe.descriptors import take_descriptors
from common.observe.event_loop import EventLoop
from common.observe.garbage import calm_collector

EXIT_OK = 0
EXIT_FAILED = 70
"""What the process lives by failed, or this incarnation was superseded: the supervisor starts another one."""
EXIT_CANNOT_START = 78
"""Configuration, model or address: starting again without a change would end the same way."""


def run_service(service: str, serve: Callable[[Config, str], Awaitable[None]]) -> int:
    """Serve until told to stop. The exit code tells a supervisor whether another start may help."""
    arguments = _parse(service)

    async def run(config: Config) -> None:
        await serve(config, arguments.name)

    try:
        config = load(arguments.config, environment(), arguments.set)
        calm_collector()
        take_descriptors()
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            runner.run(run(config))
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


def leave(status: int) -> NoReturn:
    """End the process with this status, and nothing else: all that had to be closed is closed by now.

    The interpreter is not taken apart. gRPC's poller is a thread of every process, and a pair's thread may still be in
    a call of its library; back from there it would find no interpreter, and C++ ends the process with SIGABRT then: 134
    after a drain that went well.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # a full disk; closed; none at all
            stream.flush()
    os._exit(status)


def _first(group: BaseExceptionGroup[StartupError]) -> StartupError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _say(name: str, error: BatonError, status: int) -> int:
    announce(Announcement(name=name, phase=Phase.FAILED, detail=error.message))
    with suppress(OSError, ValueError, AttributeError):  # the status tells more than the words
        sys.stderr.write(f"{name}: {error.message}\n")
    return status


def _parse(service: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m services.{service}", description=f"One {service} process.")
    parser.add_argument("--name", default=f"{service}-0", help="unique within the cluster; survives restarts")
    parser.add_argument("--config", type=Path, help="a TOML file; all processes of a cluster share one")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="overrides the file")
    return parser.parse_args()
