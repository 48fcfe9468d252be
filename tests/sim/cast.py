"""The processes of a simulated cluster, one incarnation each: production objects behind simulated doors."""

import asyncio
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from common.config.config import Config
from common.core.entropy import SeededEntropy, mint_epoch
from common.core.ids import TokenId, WorkerId, WorkerRef
from common.core.worker import Role
from common.directory.memory_store import MemoryServer, MemoryStore
from common.engine.batch import Batch
from common.engine.layer_news import LayerNews
from common.engine.loop import StepCore, Turns
from common.engine.sim import SimExecutor, SimSpeed
from common.kv.cache import PageCache
from common.kv.pool import PagePool
from common.kv.prefix import PrefixIndex
from common.kv.sim_layout import sim_layout
from common.kv.sim_storage import SimStorage
from common.observe.farewell import Farewell
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.rpc.bind import Bind
from common.text.control import ControlTokens
from common.text.tokenizer import Tokenizer
from common.transfer.loopback import LoopbackNetwork
from common.transfer.menu import ChannelMenu
from common.worker.boot import Assembly
from common.worker.engine import Engine
from common.worker.node import WorkerNode
from common.worker.outside import Driver, Outside
from services.decode.app import ASSEMBLY as DECODE
from services.prefill.app import ASSEMBLY as PREFILL
from services.router.node import Outside as RouterOutside
from services.router.node import RouterNode
from services.router.validate import ModelFacts
from tests.engine.late import LateLauncher
from tests.sim.driver import TaskDriver, TimedExecutor, TimedOffload
from tests.sim.network import Network
from tests.sim.oracle import EOS, VOCAB_SIZE, spell
from tests.sim.process import Process
from tests.sim.rings import SimRings
from tests.sim.timeloop import LoopClock, TimeLoop
from tests.sim.trace import Trace
from tests.sim.transport import memory_connect, memory_server

HOST = "127.0.0.1"
SECRET = bytes(range(32))
ASSEMBLIES: dict[Role, Assembly[Any]] = {Role.PREFILL: PREFILL, Role.DECODE: DECODE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What all processes share: the world outside of them."""

    loop: TimeLoop
    config: Config
    speed: SimSpeed
    offload_s: float
    """What a digest or a copy of pages takes."""
    network: Network
    redis: MemoryServer
    data: LoopbackNetwork
    rings: SimRings | None
    """Shared memory between workers, where they are on one host."""
    trace: Trace

    @property
    def clock(self) -> LoopClock:
        return LoopClock(self.loop)

    def channels(self) -> ChannelMenu:
        return ChannelMenu(self.data) if self.rings is None else ChannelMenu(self.rings, self.data)

    def entropy(self) -> SeededEntropy:
        return SeededEntropy(self.loop.random.getrandbits(64))


class Actor:
    """One incarnation of one process. States: serving -> stopped | killed."""

    def __init__(self, stage: Stage, name: str, incarnation: int, port: int) -> None:
        self.stage = stage
        self.name = name
        self.port = port
        self.process = Process(f"{name}@{incarnation}", stage.loop)
        self.farewell = Farewell()
        self.is_serving = False
        self.is_told_to_stop = False
        stage.network.adopt(self.process)
        self.main = stage.loop.create_task(
            self._run(), name=f"main {self.process.name}", context=self.process.context()
        )

    async def _run(self) -> None:
        try:
            await self.serve()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever ends a process is what the simulation looks for
            self.ended_by(error)
        self.is_serving = False

    async def serve(self) -> None:
        raise AssertionError("an actor is a worker or a router")

    def ended_by(self, error: BaseException) -> None:
        self.stage.trace.crash(f"{self.process.name} ended", error)

    def kill(self) -> None:
        """SIGKILL: nobody hears of it but by silence and broken connections."""
        self.process.kill()
        self.stage.network.bury(self.process.name)
        self.stage.redis.cut(self.process.name)

    def freeze(self) -> None:
        self.process.freeze()
        self.stage.network.freeze(self.process.name)

    def thaw(self) -> None:
        self.process.thaw()
        self.stage.network.thaw(self.process.name)

    def _doors(self) -> dict[str, Any]:
        name, stage = self.process.name, self.stage
        return {
            "clock": stage.clock,
            "entropy": stage.entropy(),
            "connect": memory_connect(stage.network, name),
            "make_server": memory_server(stage.network, name),
            "store": MemoryStore(stage.redis, name),
            "offload": TimedOffload(stage.offload_s),
        }

    def ready(self) -> None:
        self.is_serving = True
        self.stage.trace.say(f"{self.process.name} serves")


class WorkerActor(Actor):
    """A prefill or decode worker."""

    def __init__(self, stage: Stage, name: str, incarnation: int, port: int, role: Role) -> None:
        self.role = role
        self.node: WorkerNode[Any] | None = None
        self.engine = make_engine(stage)
        self.is_superseded = False
        super().__init__(stage, name, incarnation, port)

    async def serve(self) -> None:
        stage, assembly = self.stage, ASSEMBLIES[self.role]
        outside = Outside(**self._doors(), channels=stage.channels(), drive=self._drive)
        core: StepCore[Any] = assembly.make_core(stage.config, self.engine, outside.clock, outside.entropy)
        self.core = core
        me = WorkerRef(WorkerId(self.name), mint_epoch(outside.entropy), f"{HOST}:{self.port}")
        self.node = node = WorkerNode[Any](
            me,
            role=self.role,
            config=stage.config,
            layout=self.engine.layout,
            core=core,
            outside=outside,
            metrics=shared_metrics(ProcessRole(self.role.value)),
            hurry=self.farewell.insisted,
        )
        side = assembly.make_side(node, core, stage.config, self.engine, outside.clock)
        await node.serve(side, Bind(host=HOST, port=self.port), stop=self.farewell.asked, on_ready=self.ready)

    def ended_by(self, error: BaseException) -> None:
        if self.node is not None and self.node.registration.is_superseded:
            self.is_superseded = True
            self.stage.trace.say(f"{self.process.name} was superseded")
        else:
            super().ended_by(error)

    def kill(self) -> None:
        super().kill()
        self.stage.data.kill(WorkerId(self.name))
        if self.stage.rings is not None and self.node is not None:
            self.stage.rings.kill(self.node.me)

    def _drive(self, turns: Turns[Any], on_failure: Any, _name: str) -> Driver:
        def failed(error: Exception) -> None:
            self.stage.trace.crash(f"step loop of {self.process.name}", error)
            on_failure(error)

        return TaskDriver(turns, failed, cast(TimedExecutor, self.engine.executor))


class RouterActor(Actor):
    """A router."""

    def __init__(self, stage: Stage, name: str, incarnation: int, port: int) -> None:
        self.node: RouterNode | None = None
        self.metrics = Metrics(ProcessRole.ROUTER)
        super().__init__(stage, name, incarnation, port)

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    async def serve(self) -> None:
        config = self.stage.config
        self.node = RouterNode(
            self.name,
            config=config,
            model=ModelFacts(
                name="sim",
                context_length=config.model.max_context or 4096,
                vocab_size=VOCAB_SIZE,
                eos_token_ids=(TokenId(EOS),),
            ),
            tokenizer=cast(Tokenizer, SpellingTokenizer()),
            secret=SECRET,
            outside=RouterOutside(**self._doors()),
            metrics=self.metrics,
        )
        await self.node.serve(
            Bind(host=HOST, port=self.port), farewell=self.farewell, on_listening=lambda _address: self.ready()
        )
        if self.node.failure is not None and self.node.failure.__cause__ is not None:
            raise self.node.failure


class SpellingTokenizer:
    """Every token is its number and a space."""

    control = ControlTokens(ids={}, hidden=frozenset())
    chat_template = None

    def token_bytes(self, token: TokenId) -> bytes:
        return spell(token).encode()

    def whole_text(self, token: TokenId) -> str:
        return spell(token)


@cache
def shared_metrics(role: ProcessRole) -> Metrics:
    """Workers of all worlds share their numbers: nobody reads them here, and making them takes milliseconds."""
    return Metrics(role)


def make_engine(stage: Stage) -> Engine:
    """Simulated executor and storage under the production cache and batch."""
    section = stage.config.engine
    storage = SimStorage(sim_layout(page_size=section.page_size), section.num_pages or 64)
    news = LayerNews(storage.layout.num_layers, stage.config.transfer.layer_groups)
    inner = SimExecutor(
        storage,
        vocab_size=VOCAB_SIZE,
        max_context=stage.config.model.max_context or 4096,
        speed=stage.speed,
        news=news,
    )
    executor = TimedExecutor(inner)
    cache_ = PageCache(PagePool(storage.num_pages), PrefixIndex(), page_size=section.page_size)
    is_ahead = section.async_steps == "on"
    batch = Batch(
        cache=cache_,
        executor=executor,
        layout=storage.layout,
        eos_ids=(TokenId(EOS),),
        launcher=LateLauncher(executor) if is_ahead else None,
    )
    return Engine(
        layout=storage.layout,
        storage=storage,
        executor=executor,
        cache=cache_,
        batch=batch,
        is_ahead=is_ahead,
        news=news,
    )
