"""A whole cluster in one event loop: production routers and workers, and everything around them under our hand."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any

from common.config.config import Config
from common.config.sections.cluster import LivenessSection
from common.config.sections.engine import EngineSection
from common.config.sections.model import ModelSection
from common.config.sections.router import RouterSection
from common.config.sections.transfer import TransferSection
from common.core.entropy import SeededEntropy
from common.core.ids import WorkerId
from common.core.worker import Role
from common.directory.memory_store import MemoryServer
from common.engine.sim import SimSpeed
from common.transfer.loopback import LoopbackNetwork
from tests.sim.cast import Actor, RouterActor, Stage, WorkerActor
from tests.sim.client import Client, FindRouter, Manners
from tests.sim.network import Network
from tests.sim.oracle import Ask
from tests.sim.rings import SimRings
from tests.sim.timeloop import LoopClock, TimeLoop
from tests.sim.trace import Trace, logs_into

FIRST_PORT = 21_000
BASE_DELAY_S = 0.0002
RESTART_S = 0.25

CONFIG = Config(
    model=ModelSection(max_context=512),
    engine=EngineSection(
        executor="sim",
        page_size=4,
        num_pages=56,
        max_batch_tokens=24,
        chunk_tokens=12,
        max_sequences=12,
        local_extend_tokens=8,
    ),
    # A run is four pages, two land at a time: every hand-off is cut into pieces.
    transfer=TransferSection(channel="loopback", deadline_s=1.0, staging_count=3, staging_bytes=256, land_bytes=128),
    liveness=LivenessSection(redis_poll_s=0.1, drain_s=5.0),
    # Attempts: so many that no bad luck of this simulation's size uses them up.
    router=RouterSection(max_attempts=16, local_prompt_tokens=8, max_buffered_tokens=16),
)
"""Everything small, so that every border is met with few tokens."""

SPEED = SimSpeed(step_s=0.02, new_token_s=0.001)
OFFLOAD_S = 0.002


class World:
    """Writer of every fault. Names: prefill-0, decode-0, router-0, ...; a name lives through its incarnations."""

    def __init__(
        self,
        loop: TimeLoop,
        *,
        prefill: int = 2,
        decode: int = 2,
        routers: int = 1,
        config: Config = CONFIG,
        speed: SimSpeed = SPEED,
        offload_s: float = OFFLOAD_S,
        num_slots: int = 0,
    ) -> None:
        """`num_slots`: of the rings of shared memory by which workers reach each other; 0: they are on other hosts."""
        self.loop = loop
        self.trace = Trace(loop)
        self.network = Network(loop, delay=self._delay)
        self.redis = MemoryServer(LoopClock(loop))
        self.data = LoopbackNetwork(SeededEntropy(loop.random.getrandbits(64)))
        slot_bytes = config.transfer.staging_bytes
        self.rings = SimRings(loop, self.data, num_slots=num_slots, slot_bytes=slot_bytes) if num_slots else None
        self.stage = Stage(
            loop=loop,
            config=config,
            speed=speed,
            offload_s=offload_s,
            network=self.network,
            redis=self.redis,
            data=self.data,
            rings=self.rings,
            trace=self.trace,
        )
        loop.set_exception_handler(self._unhandled)
        self.workers: dict[str, WorkerActor] = {}
        self.routers: dict[str, RouterActor] = {}
        self.past: list[Actor] = []
        """Incarnations that were killed or replaced."""
        self.clients: list[Client] = []
        self._roles = {f"{role}-{index}": role for role, count in _counts(prefill, decode) for index in range(count)}
        self._router_names = [f"router-{index}" for index in range(routers)]
        self._ports = {name: FIRST_PORT + number for number, name in enumerate([*self._roles, *self._router_names])}
        self._incarnations = dict.fromkeys(self._ports, 0)
        self._delays: dict[str, float] = {}
        self._asking: list[asyncio.Task[None]] = []
        self._find_router = FindRouter(self.routers)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._ports)

    @property
    def worker_names(self) -> tuple[str, ...]:
        return tuple(self._roles)

    def actor(self, name: str) -> Actor | None:
        """The present incarnation, unless it was killed."""
        return self.workers.get(name) or self.routers.get(name)

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """An exception in a callback, or in a task that nobody asks."""
        error = context.get("exception")
        what = str(context.get("message"))
        self.trace.crash(what, error) if isinstance(error, BaseException) else self.trace.bug(what)

    # Life and death

    def start(self, name: str) -> None:
        """A new incarnation under a new epoch, at the name's address. Nothing while another one lives there."""
        if self.actor(name) is not None:
            return
        self._incarnations[name] += 1
        incarnation, port = self._incarnations[name], self._ports[name]
        self.trace.say(f"start {name}@{incarnation}")
        actor: Actor
        if name in self._roles:
            actor = self.workers[name] = WorkerActor(self.stage, name, incarnation, port, self._roles[name])
        else:
            actor = self.routers[name] = RouterActor(self.stage, name, incarnation, port)
        actor.main.add_done_callback(lambda _main: self._supervise(actor))

    def _supervise(self, actor: Actor) -> None:
        """A process that ended by itself is started again, as `baton up` does it."""
        self.network.bury(actor.process.name)
        if self.actor(actor.name) is not actor or actor.is_told_to_stop:
            return
        self._take(actor.name)
        self.loop.call_later(RESTART_S, self.start, actor.name, context=Context())

    def kill(self, name: str) -> None:
        if (actor := self._take(name)) is not None:
            self.trace.say(f"kill {actor.process.name}")
            actor.kill()

    def replace(self, name: str) -> None:
        """Another incarnation is started elsewhere while this one is frozen: when it wakes it is a zombie."""
        if (actor := self._take(name)) is not None:
            self.trace.say(f"replace {actor.process.name}")
            actor.freeze()
            self._ports[name] = FIRST_PORT + 100 + len(self.past)
            self.start(name)

    def _take(self, name: str) -> Actor | None:
        actor = self.workers.pop(name, None) or self.routers.pop(name, None)
        if actor is not None:
            self.past.append(actor)
        return actor

    async def retire(self, name: str, *, within_s: float = 30.0) -> None:
        """SIGTERM: drain and leave."""
        if (actor := self.actor(name)) is None:
            return
        self.trace.say(f"stop {actor.process.name}")
        actor.is_told_to_stop = True
        actor.farewell.hear()
        done, _ = await asyncio.wait({actor.main}, timeout=within_s)
        if self.actor(name) is not actor:
            return
        if not done:
            self.trace.bug(f"{actor.process.name} did not stop within {within_s} s")
        self._take(name)
        self.network.bury(actor.process.name)

    def pause(self, name: str) -> None:
        if (actor := self.actor(name)) is not None:
            self.trace.say(f"pause {actor.process.name}")
            actor.freeze()

    def resume(self, name: str) -> None:
        if (actor := self.actor(name)) is not None:
            self.trace.say(f"resume {actor.process.name}")
            actor.thaw()

    def wake_zombies(self) -> None:
        """Whoever was replaced comes back to life, and must find out."""
        for actor in self.past:
            if actor.process.is_frozen:
                self.trace.say(f"wake {actor.process.name}")
                actor.thaw()

    # Links

    def cut(self, one: str, other: str) -> None:
        """Nothing passes between two processes, control or data."""
        self.trace.say(f"cut {one} {other}")
        first, second = self.actor(one), self.actor(other)
        if first is not None and second is not None:
            self.network.cut(first.process.name, second.process.name)
        self.data.faults.cut |= {(WorkerId(one), WorkerId(other)), (WorkerId(other), WorkerId(one))}

    def heal(self, one: str, other: str) -> None:
        """Incarnations that were started meanwhile were never cut off."""
        self.trace.say(f"heal {one} {other}")
        self.network.heal_all(lambda name: name.partition("@")[0] in (one, other))
        self.data.faults.cut -= {(WorkerId(one), WorkerId(other)), (WorkerId(other), WorkerId(one))}

    def heal_all(self) -> None:
        self.trace.say("heal links")
        self.network.heal_all()
        self.data.faults.cut.clear()
        self._delays.clear()

    def slow(self, name: str, seconds: float) -> None:
        """Every packet to and from this process takes longer."""
        self._delays[name] = seconds

    def _delay(self, source: str, destination: str) -> float:
        extra = self._delays.get(source.partition("@")[0], 0.0) + self._delays.get(destination.partition("@")[0], 0.0)
        return (BASE_DELAY_S + extra) * (0.5 + self.loop.random.random())

    # Clients

    def ask(self, ask: Ask, manners: Manners | None = None) -> Client:
        """One more client."""
        client = Client(self.stage, ask, manners or Manners())
        self.clients.append(client)
        self._asking.append(asyncio.create_task(client.run(self._find_router), name=f"client {ask.name}"))
        return client

    async def wait_clients(self, *, within_s: float = 300.0) -> None:
        """Until every client has its end."""
        if not self._asking:
            return
        done, left = await asyncio.wait(self._asking, timeout=within_s)
        for task in done:
            task.result()
        for task in left:
            self.trace.bug(f"{task.get_name()} waits for ever")
            task.cancel()
        if left:
            await asyncio.wait(left)

    def check_clients(self) -> None:
        for client in self.clients:
            client.check()

    async def wait_serving(self, *, within_s: float = 30.0) -> None:
        """Until every process serves."""
        async with asyncio.timeout(within_s):
            while any((actor := self.actor(name)) is None or not actor.is_serving for name in self._ports):
                await asyncio.sleep(0.05)


@asynccontextmanager
async def world(loop: TimeLoop, **options: object) -> AsyncIterator[World]:
    """A running cluster for the block, which ends it as it likes; what is left is killed."""
    made = World(loop, **options)  # type: ignore[arg-type]
    with logs_into(made.trace):
        for name in made.names:
            made.start(name)
        try:
            await made.wait_serving()
            yield made
        finally:
            for name in made.names:
                made.kill(name)
            made.wake_zombies()
            for actor in made.past:
                actor.kill()
            if made.rings is not None:
                made.rings.close()


def _counts(prefill: int, decode: int) -> Sequence[tuple[Role, int]]:
    return ((Role.PREFILL, prefill), (Role.DECODE, decode))
