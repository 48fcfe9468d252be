"""One worker's engine without weights: simulated storage and executor under the production cache and batch."""

from collections.abc import Callable
from dataclasses import dataclass

from common.core.ids import Epoch, RequestId, RouterId, RouterRef, SequenceId, TokenId
from common.core.request import Choice, TokenSampling, Work
from common.engine.aside import AsideLauncher
from common.engine.batch import Batch
from common.engine.executor import Executor
from common.engine.flight import Launcher
from common.engine.inline import InlineLauncher
from common.engine.outcome import BatchOutcome, Drawn
from common.engine.plan import BatchPlan, Extend
from common.engine.sim import SimExecutor
from common.kv.cache import PageCache
from common.kv.pool import PagePool
from common.kv.prefix import PrefixIndex
from common.kv.sim_layout import sim_layout
from common.kv.sim_storage import SimStorage
from common.worker.engine import Engine
from tests.engine.late import LateLauncher

PAGE_SIZE = 4
SCOPE = bytes(range(32))
ROUTER = RouterRef(RouterId("router-0"), Epoch(1))
LAYOUT = sim_layout(page_size=PAGE_SIZE)
EOS = TokenId(511)


def work(
    name: str,
    prompt: list[int],
    *,
    max_tokens: int = 8,
    n: int = 1,
    temperature: float = 0.0,
    attempt: int = 1,
    emitted: tuple[int, ...] = (),
    deadline: float = 1e9,
    seed: int = 7,
    router: RouterRef = ROUTER,
    **options: object,
) -> Work:
    return Work(
        request=RequestId(name),
        attempt=attempt,
        prompt=tuple(TokenId(token) for token in prompt),
        emitted=tuple(TokenId(token) for token in emitted),
        choices=tuple(Choice(index=index, seed=seed + index) for index in range(n)),
        sampling=TokenSampling(temperature=temperature, max_tokens=max_tokens, ignore_eos=True, **options),  # type: ignore[arg-type]
        deadline=deadline,
        cache_scope=SCOPE,
        router=router,
    )


@dataclass
class Rig:
    """Everything a test may want to look into."""

    storage: SimStorage
    executor: SimExecutor
    cache: PageCache
    batch: Batch
    is_ahead: bool = False

    def engine(self) -> Engine:
        """The same, as composition roots take it."""
        return Engine(
            layout=LAYOUT,
            storage=self.storage,
            executor=self.executor,
            cache=self.cache,
            batch=self.batch,
            is_ahead=self.is_ahead,
            news=self.executor.news,
        )


MakeLauncher = Callable[[Executor], Launcher]

DEVICES: dict[str, MakeLauncher] = {"early": InlineLauncher, "late": LateLauncher, "aside": AsideLauncher}
"""Devices that steps run on while the host is ahead: done at once, not before they are waited for, on a thread."""


def make_rig(num_pages: int = 64, device: str | None = None, **executor: object) -> Rig:
    """`device` is one of DEVICES; None: no step is ahead."""
    storage = SimStorage(LAYOUT, num_pages)
    engine = SimExecutor(storage, **executor)  # type: ignore[arg-type]
    cache = PageCache(PagePool(num_pages), PrefixIndex(), page_size=PAGE_SIZE)
    return Rig(
        storage=storage,
        executor=engine,
        cache=cache,
        batch=Batch(
            cache=cache,
            executor=engine,
            layout=LAYOUT,
            eos_ids=(EOS,),
            launcher=None if device is None else DEVICES[device](engine),
        ),
        is_ahead=device is not None,
    )


def generate(given: Work, *, chunk: int = 10_000, num_pages: int = 256) -> dict[int, list[TokenId]]:
    """The reference: the request alone on one worker, every choice to its end."""
    rig = make_rig(num_pages)
    output: dict[int, list[TokenId]] = {choice.index: [] for choice in given.choices}
    first = rig.batch.add(given, arrived=0.0)
    rig.batch.begin(first)
    alive: list[SequenceId] = [first]
    while alive:
        extend = tuple(Extend(sequence=each, num_tokens=min(chunk, rig.batch[each].num_pending)) for each in alive)
        outcome = rig.batch.run(BatchPlan(extend=extend))
        alive = _collect(rig, outcome, output, alive)
    rig.cache.audit()
    assert rig.cache.counts().referenced == 0
    return output


def _collect(
    rig: Rig, outcome: BatchOutcome, output: dict[int, list[TokenId]], alive: list[SequenceId]
) -> list[SequenceId]:
    drawn: tuple[Drawn, ...] = outcome.drawn
    rig.batch.proceed(drawn)
    sources = {draw.source for draw in drawn}
    for draw in drawn:
        output[draw.choice.index].append(draw.token)
    going_on = [draw.sequence for draw in drawn if draw.finish is None]
    return [each for each in alive if each not in sources] + going_on
