"""Builds what a worker computes with: layout, storage, executor, cache, batch. Proven with a real token."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from common.config.config import Config
from common.core.errors import Reason, StartupError
from common.core.ids import RequestId, SequenceId, TokenId
from common.core.request import TokenSampling
from common.core.step import Sample, Step, StepRow
from common.core.worker import Role
from common.engine.aside import AsideLauncher
from common.engine.batch import Batch
from common.engine.executor import Executor
from common.engine.flight import Launcher
from common.engine.layer_news import LayerNews
from common.engine.paced import PacedExecutor
from common.engine.sim import SimExecutor, SimSpeed
from common.kv.cache import PageCache
from common.kv.layout import PageLayout
from common.kv.page_device import PageDevice
from common.kv.pool import PagePool
from common.kv.prefix import PrefixIndex
from common.kv.sim_layout import sim_layout
from common.kv.sim_storage import SimStorage
from common.kv.staging import MakeBuffer, host_memory
from common.kv.storage import PageStorage
from common.worker.capacity import Report
from common.worker.rules import GrammarRules, NoRules, Rules

SIM_PAGES = 4096
"""Chosen: 65,536 tokens at 16 a page, in 1 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What a core is made of."""

    layout: PageLayout
    storage: PageStorage
    executor: Executor
    cache: PageCache
    batch: Batch
    rules: Rules = field(default_factory=NoRules)
    is_ahead: bool = False
    """Whether a step is launched before the one before it is collected."""
    news: LayerNews | None = None
    """Where the executor tells of layers amid a step, on the step loop; None where it does not."""
    make_buffer: MakeBuffer = host_memory
    """The host's memory for staging that the executor's device copies from and to fastest."""
    page_device: PageDevice | None = None
    """The GPU that the pages lie on: what leaves is staged there. None where they lie in the host's memory."""


def build_engine(config: Config, report: Report, role: Role) -> Engine:
    """Load the model and take the memory for its pages. Slow, and blocking: called on a thread.

    Raises StartupError with the folder's fault, or when memory is short.
    """
    made = _sim(config) if config.engine.executor == "sim" else _torch(config, report, role)
    executor, eos_ids, storage = made.executor, made.eos_ids, made.executor.storage
    cache = PageCache(PagePool(storage.num_pages), PrefixIndex(), page_size=storage.layout.page_size)
    prove(executor)
    launcher = _launcher(config.engine.async_steps, made)
    batch = Batch(cache=cache, executor=executor, layout=storage.layout, eos_ids=eos_ids, launcher=launcher)
    rules = GrammarRules(Path(config.model.path), vocab_size=executor.vocab_size, eos_ids=eos_ids)
    return Engine(
        layout=storage.layout,
        storage=storage,
        executor=executor,
        cache=cache,
        batch=batch,
        rules=rules,
        is_ahead=launcher is not None,
        # Beside the step loop nobody may listen.
        news=None if isinstance(launcher, AsideLauncher) else made.news,
        make_buffer=made.make_buffer,
        page_device=made.page_device,
    )


def prove(executor: Executor) -> TokenId:
    """Draw one real token through every layer, before anybody relies on this worker. Raises StartupError."""
    sampling = TokenSampling(temperature=0.0, max_tokens=1)
    row = StepRow(
        sequence=SequenceId(RequestId("self-test")),
        tokens=(TokenId(0), TokenId(1 % executor.vocab_size)),
        start=0,
        pages=tuple(range(executor.storage.layout.pages_for(2))),  # type: ignore[arg-type]  # the pool is untouched yet
        samples=(Sample(seed=1, position=2, sampling=sampling),),
    )
    result = executor.run(Step(rows=(row,)))
    for page in row.pages:
        executor.storage.zero(page)
    if result.failed or not 0 <= result.drawn[0][0] < executor.vocab_size:
        raise StartupError(
            message="the self-test drew no token: the model computes nonsense here", reason=Reason.MODEL_LOAD_FAILED
        )
    return result.drawn[0][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """An executor, and the tokens that end an answer. `launcher`: itself, where its device computes beside the host."""

    executor: Executor
    eos_ids: tuple[TokenId, ...] = ()
    launcher: Launcher | None = None
    news: LayerNews | None = None
    make_buffer: MakeBuffer = host_memory
    page_device: PageDevice | None = None


def _launcher(async_steps: str, made: _Made) -> Launcher | None:
    """What launches steps ahead of the host; None where none are ahead."""
    if async_steps == "off":
        return None
    if async_steps == "on" and made.launcher is None:
        return AsideLauncher(made.executor)
    return made.launcher


def _sim(config: Config) -> _Made:
    layout = sim_layout(page_size=config.engine.page_size)
    storage = SimStorage(layout, config.engine.num_pages or SIM_PAGES)
    speed = SimSpeed(step_s=config.engine.sim_step_ms / 1000)
    news = LayerNews(layout.num_layers, config.transfer.layer_groups)
    executor = SimExecutor(storage, max_context=config.model.max_context or 4096, speed=speed, news=news)
    return _Made(executor=PacedExecutor(executor) if config.engine.sim_step_ms else executor, news=news)


def _torch(config: Config, report: Report, role: Role) -> _Made:
    from common.engine.device import pinned_memory
    from common.kv.torch_device import TorchPageDevice
    from common.worker.compute import choose_kernels
    from common.worker.torch_engine import build_torch

    choose_kernels(config.engine, report)
    executor, eos_ids = build_torch(config, Path(config.model.path), report, decodes=role is Role.DECODE)
    made = _Made(executor=executor, eos_ids=eos_ids, news=executor.news)
    storage = executor.storage
    if storage.device.type == "cpu":
        return made
    page_device = TorchPageDevice(storage.device, storage.streams, storage.keys)
    return replace(made, launcher=executor, make_buffer=pinned_memory, page_device=page_device)
