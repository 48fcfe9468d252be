"""Who is compared: something that can be woken, measured and put to rest again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from common.config.config import Config
from common.core.clock import Clock
from common.core.entropy import Entropy
from common.observe.announce import Announcement
from services.local.bench.cluster_target import lab
from services.local.bench.engine_target import engine_target
from services.local.bench.http_target import HttpTarget, ModelShape
from services.local.bench.peer import Peer
from services.local.bench.public import public_words
from services.local.bench.target import Target
from services.local.bench.ways import Layout
from services.local.topology import Overrides

WAKE_S = 1.0
"""Chosen: a server that was stopped catches up with its timers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Awake:
    """A contender that may use the machine now. `needs_warm_up`: it was started just now."""

    target: Target
    pids: Callable[[], Iterable[int]]
    needs_warm_up: bool = True


class Contender(Protocol):
    """Idle, it uses no processor time."""

    @property
    def name(self) -> str: ...

    def describe(self) -> str:
        """How it is run, for the results."""
        ...

    def awake(self) -> AbstractAsyncContextManager[Awake]:
        """Measurable inside the block. Raises StartupError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineContender:
    """The engine in this process, loaded anew each time."""

    config: Config
    clock: Clock
    name: str = "engine"

    def describe(self) -> str:
        engine = self.config.engine
        return f"in this process, {engine.threads} threads, chunks of {engine.chunk_tokens}, {self.config.model.dtype}"

    @asynccontextmanager
    async def awake(self) -> AsyncIterator[Awake]:
        async with engine_target(self.config, self.clock) as target:
            yield Awake(target=target, pids=tuple)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterContender:
    """A local cluster, started anew each time: it takes seconds, and a stopped one would have lost its leases."""

    layout: Layout
    overrides: Overrides
    clock: Clock
    entropy: Entropy
    tell: Callable[[Announcement], None]

    @property
    def name(self) -> str:
        return self.layout.way.value

    def describe(self) -> str:
        return f"{self.layout.describe()}; {public_words(self.overrides.settings)}"

    @asynccontextmanager
    async def awake(self) -> AsyncIterator[Awake]:
        started = lab(self.layout, self.overrides, clock=self.clock, entropy=self.entropy, tell=self.tell)
        async with started as running:
            yield Awake(target=running.target, pids=running.pids)


class PeerContender:
    """A peer that runs all the time, and is stopped by a signal while it is not its turn."""

    def __init__(self, peer: Peer, *, shape: ModelShape, clock: Clock) -> None:
        self.name = peer.spec.name
        self._peer = peer
        self._is_warm = False
        self._target = HttpTarget(peer.server, model=peer.spec.model, shape=shape, body=peer.spec.body, clock=clock)

    def describe(self) -> str:
        return self._peer.describe()

    @asynccontextmanager
    async def awake(self) -> AsyncIterator[Awake]:
        self._peer.resume()
        await asyncio.sleep(WAKE_S)
        try:
            yield Awake(target=self._target, pids=self._peer.pids, needs_warm_up=not self._is_warm)
            self._is_warm = True
        finally:
            self._peer.pause()
