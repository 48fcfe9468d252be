"""The undisturbed answer: the same model in one process, the request alone, no network, no cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.core.ids import Epoch, RequestId, RouterId, RouterRef, SequenceId, TokenId
from common.core.request import TokenSampling, Work
from common.engine.batch import Batch
from common.engine.executor import Executor
from common.engine.plan import BatchPlan, Extend
from common.engine.rule import TokenRule
from common.engine.sim import SimExecutor
from common.kv.cache import PageCache
from common.kv.pool import PagePool
from common.kv.prefix import PrefixIndex
from common.kv.sim_layout import sim_layout
from common.kv.sim_storage import SimStorage
from services.router.request import mint_choices
from tests.cluster.house import Ask

if TYPE_CHECKING:
    from common.kv.storage import PageStorage


class Reference:
    """One executor, used for one request at a time."""

    def __init__(self, executor: Executor, eos_ids: tuple[TokenId, ...] = ()) -> None:
        self._executor = executor
        self._eos_ids = eos_ids
        self._storage: PageStorage = executor.storage

    def answer(self, ask: Ask, rule: TokenRule | None = None) -> list[list[int]]:
        """Token ids by choice. `rule`: of a constraint, before the first token."""
        (answer,) = self.answer_together([ask], rule)
        return answer

    def answer_together(self, asks: Sequence[Ask], rule: TokenRule | None = None) -> list[list[list[int]]]:
        """Token ids by request and choice. In one batch: on whose rows none depends, and which is sooner done."""
        layout = self._storage.layout
        cache = PageCache(PagePool(self._storage.num_pages), PrefixIndex(), page_size=layout.page_size)
        batch = Batch(cache=cache, executor=self._executor, layout=layout, eos_ids=self._eos_ids)
        works = [_work(ask, RequestId(f"reference-{number}")) for number, ask in enumerate(asks)]
        output: dict[SequenceId, list[int]] = {}
        alive: list[SequenceId] = [batch.add(work, arrived=0.0, rule=rule) for work in works]
        for each in alive:
            batch.begin(each)
        while alive:
            extend = tuple(Extend(sequence=each, num_tokens=batch[each].num_pending) for each in alive)
            drawn = batch.run(BatchPlan(extend=extend)).drawn
            batch.proceed(drawn)
            for draw in drawn:
                output.setdefault(draw.sequence, []).append(draw.token)
            alive = [draw.sequence for draw in drawn if draw.finish is None]
        return [[output[SequenceId(work.request, choice.index)] for choice in work.choices] for work in works]


def sim_reference(num_pages: int = 512) -> Reference:
    """The simulated executor, as the workers build it."""
    return Reference(SimExecutor(SimStorage(sim_layout(), num_pages)))


def torch_reference(folder: Path, num_pages: int = 512, *, kv_dtype: str = "float32") -> Reference:
    """The demo model in fp32 on one thread, over pages of `kv_dtype`."""
    from common.core.clock import SystemClock
    from common.engine.torch_executor import TorchExecutor
    from common.kv.torch_storage import TorchStorage
    from common.model.load import load_model

    model = load_model(folder)
    description = model.description
    layout = description.spec.page_layout(page_size=16, dtype=kv_dtype, model_digest=description.digest)
    executor = TorchExecutor(model.decoder, TorchStorage(layout, num_pages), clock=SystemClock(), num_threads=1)
    return Reference(executor, description.generation.eos_ids)


def _work(ask: Ask, name: RequestId) -> Work:
    sampling = TokenSampling(temperature=ask.temperature, max_tokens=ask.max_tokens, ignore_eos=ask.ignore_eos)
    seed = ask.seed or 0
    return Work(
        request=name,
        attempt=1,
        prompt=tuple(TokenId(token) for token in ask.tokens),
        choices=mint_choices(seed, ask.n),
        sampling=sampling,
        deadline=1e12,
        cache_scope=bytes(32),
        router=RouterRef(RouterId("reference"), Epoch(1)),
    )
