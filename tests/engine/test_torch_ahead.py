"""The executor with weights, a step ahead of the host: the same tokens, on the CPU and by the GPU's operators."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from common.core.clock import ManualClock
from common.core.ids import SequenceId, TokenId
from common.core.request import Work
from common.core.step import Step
from common.engine.aside import AsideLauncher
from common.engine.batch import Batch
from common.engine.plan import BatchPlan, Extend
from common.engine.stepper import Stepper
from common.engine.torch_executor import TorchExecutor, TorchFlight
from common.kv.cache import PageCache
from common.kv.pool import PagePool
from common.kv.prefix import PrefixIndex
from common.kv.torch_storage import TorchStorage
from kernels.dispatch import interpreted
from tests.engine.rig import work
from tests.engine.torch_rig import NAN_BYTE, small_model
from tests.kernels.read_back import NothingReadBack

PAGES = 40
STOPS = tuple(TokenId(token) for token in range(0, 512, 3))


class QuietExecutor(TorchExecutor):
    """Its launches read nothing back."""

    def launch(self, step: Step) -> TorchFlight:
        with NothingReadBack():
            return super().launch(step)


@contextmanager
def gpu_operators() -> Iterator[None]:
    small_model.cache_clear()  # weights are laid out for the operators that multiply by them
    with interpreted():
        yield
    small_model.cache_clear()


def answers(works: list[Work], *, launches: str | None, executor_type: type[TorchExecutor] = TorchExecutor) -> object:
    """Everything that is told of `works`, which are served together; None: without steps ahead."""
    torch.set_num_threads(1)
    decoder = small_model().decoder
    layout = decoder.spec.page_layout(page_size=4, dtype="float32", model_digest=b"")
    storage = TorchStorage(layout, PAGES)
    storage.kv_PL2HSD.view(torch.uint8).fill_(NAN_BYTE)
    executor = executor_type(decoder, storage, clock=ManualClock(), num_threads=1)
    aside = AsideLauncher(executor) if launches == "aside" else None
    launcher = executor if launches == "own" else aside
    cache = PageCache(PagePool(PAGES), PrefixIndex(), page_size=4)
    batch = Batch(cache=cache, executor=executor, layout=layout, eos_ids=(), launcher=launcher)
    stepper = Stepper(batch, is_ahead=launcher is not None)
    alive = [batch.add(each, arrived=0.0) for each in works]
    for each in alive:
        batch.begin(each)
    told: dict[tuple[SequenceId, int], object] = {}
    scored: list[object] = []

    def plan() -> BatchPlan:
        views = [batch.view(each) for each in alive if not batch.is_ending(each)]
        return BatchPlan(extend=tuple(Extend(sequence=each.id, num_tokens=min(6, each.num_pending)) for each in views))

    while alive or stepper.is_flying:
        for outcome in stepper.turn(plan):
            assert not outcome.failed
            batch.proceed(outcome.drawn)
            scored += [(str(each.work.request), each.first_position, each.logprobs) for each in outcome.scored]
            for draw in outcome.drawn:
                told[draw.sequence, draw.index] = (draw.token, draw.finish, draw.logprobs)
            sources = {draw.source for draw in outcome.drawn}
            going = [draw.sequence for draw in outcome.drawn if draw.finish is None]
            alive[:] = [each for each in alive if each not in sources] + going
    cache.audit()
    assert cache.counts().referenced == 0
    if aside is not None:
        aside.close()
    return told, sorted(scored, key=str)


def some_works(*, is_whole: bool) -> list[Work]:
    works = [
        work("greedy", [1, 2, 3, 4, 5], max_tokens=7),
        work("random", [9, 8, 7, 6, 5, 4, 3, 2], max_tokens=9, temperature=0.9, top_p=0.9, logprobs=3),
        work("stops", [11, 12, 13], max_tokens=12, temperature=1.1, stop_token_ids=STOPS),
    ]
    if is_whole:
        works += [
            work("scored", list(range(30, 44)), max_tokens=4, prompt_logprobs=2),
            work("choices", [21, 22, 23, 24, 25, 26], max_tokens=5, n=2, temperature=0.8),
            work("penalised", [31, 32, 33], max_tokens=5, repetition_penalty=1.3),
        ]
    return works


@pytest.mark.parametrize("launches", ["own", "aside"])
@pytest.mark.parametrize("is_whole", [False, True], ids=["rows that go ahead", "rows that wait, too"])
def test_weights_draw_the_same_tokens_a_step_ahead(launches: str, is_whole: bool) -> None:
    works = some_works(is_whole=is_whole)
    assert answers(works, launches=launches) == answers(works, launches=None)


def test_a_launch_by_the_gpus_operators_reads_nothing_back_and_draws_what_a_loop_that_waits_draws() -> None:
    works = [replace(each, sampling=replace(each.sampling, max_tokens=3)) for each in some_works(is_whole=False)[1:2]]
    with gpu_operators():
        assert answers(works, launches="own", executor_type=QuietExecutor) == answers(works, launches=None)


def test_a_row_of_numbers_that_are_not_finite_fails_when_it_is_collected_and_its_follower_is_dropped() -> None:
    decoder = small_model().decoder
    layout = decoder.spec.page_layout(page_size=4, dtype="float32", model_digest=b"")
    storage = TorchStorage(layout, PAGES)
    executor = TorchExecutor(decoder, storage, clock=ManualClock(), num_threads=1)
    cache = PageCache(PagePool(PAGES), PrefixIndex(), page_size=4)
    batch = Batch(cache=cache, executor=executor, layout=layout, eos_ids=(), launcher=executor)
    good, bad = (batch.add(work(name, [1, 2, 3], max_tokens=9), arrived=0.0) for name in ("good", "bad"))
    for each in (good, bad):
        batch.begin(each)
    both = (good, bad)
    batch.launch(BatchPlan(extend=tuple(Extend(sequence=each, num_tokens=3) for each in both)))
    batch.proceed(batch.collect().drawn)
    storage.kv_PL2HSD[batch[bad].pages[0].page].view(torch.uint8).fill_(NAN_BYTE)
    batch.launch(BatchPlan(decode=both))
    batch.launch(BatchPlan(decode=both))
    outcome = batch.collect()
    assert (outcome.failed, outcome.extended) == ((bad,), (good,))
    batch.proceed(outcome.drawn)
    batch.retire(bad)
    assert cache.counts().referenced == 4, "the follower still writes there"
    outcome = batch.collect()
    assert (outcome.failed, outcome.extended, outcome.num_orphans) == ((), (good,), 1)
    assert cache.counts().referenced == 2
