"""The doors of a worker process to the world: real in production, simulated in virtual time."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from common.core.clock import Clock
from common.core.entropy import Entropy
from common.directory.store import Store
from common.engine.loop import StepThread, Turns
from common.kv.page_device import PageDevice
from common.kv.staging import MakeBuffer, host_memory
from common.rpc.client import Connect
from common.rpc.server import MakeServer
from common.transfer.menu import ChannelMenu
from common.transfer.offload import Offload


class Driver(Protocol):
    """Makes a step loop turn: a thread, or the simulation's own task."""

    def start(self) -> None: ...

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Stop after the current turn. True when it ended in time."""
        ...


Drive = Callable[[Turns[Any], Callable[[Exception], None], str], Driver]


def drive_on_thread(turns: Turns[Any], on_failure: Callable[[Exception], None], name: str) -> Driver:
    """Production: one thread per worker."""
    return StepThread(turns, on_failure=on_failure, name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Everything a worker reaches for that is not its own."""

    clock: Clock
    entropy: Entropy
    connect: Connect
    make_server: MakeServer
    store: Store
    channels: ChannelMenu
    offload: Offload
    drive: Drive = drive_on_thread
    make_buffer: MakeBuffer = host_memory
    """What staging is made of: the host's memory that the worker's device copies from and to fastest."""
    page_device: PageDevice | None = None
    """The GPU that the worker's pages lie on."""


def die(status: int) -> None:
    """End the process at once: for a state in which going on could only do harm. The supervisor restarts it."""
    os._exit(status)
