"""The word that layers are done: true when it is said, said once, and without effect on what is computed."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from common.core.errors import InternalError
from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.step import Step, StepRow
from common.engine.layer_news import LayerNews
from common.engine.sim import SimExecutor
from common.kv.layout import LayerSpan
from common.kv.sim_storage import SimStorage
from common.kv.storage import PageStorage
from common.model.decoder import Decoder
from kernels.dispatch import interpreted
from tests.engine.rig import LAYOUT, PAGE_SIZE
from tests.engine.torch_rig import SHAPE, TorchRig

NUM_LAYERS = SHAPE.num_layers
DTYPES = ["float32", "bfloat16"]
PROMPT = 40


def prompt(seed: int, length: int = PROMPT) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(SHAPE.vocab) for _ in range(length)]


def copy_layers(storage: PageStorage, pages: tuple[PageId, ...], span: LayerSpan) -> bytes:
    out = memoryview(bytearray(len(pages) * storage.layout.part_bytes(span)))
    storage.gather(pages, out, span)
    return bytes(out)


def listening(rig: TorchRig, groups: int, listener: Callable[[Step, int], None]) -> None:
    rig.executor.news = LayerNews(NUM_LAYERS, groups)
    rig.executor.news.listener = listener


@pytest.fixture(params=["native", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Layers in native calls, or one by one in torch: what mixtures of experts take."""
    if request.param == "torch":
        forward = Decoder.forward

        def without_stack(self: Decoder, *given: object) -> torch.Tensor:
            with monkeypatch.context() as patch:
                patch.setattr(self, "_stack", None)
                return forward(self, *given)  # type: ignore[arg-type]

        monkeypatch.setattr(Decoder, "forward", without_stack)
    return str(request.param)


@pytest.mark.parametrize(("most", "expected"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (7, 6), (11, 6), (99, 12)])
def test_groups_are_equal_and_never_more_than_asked_for(most: int, expected: int) -> None:
    assert LayerNews(12, most).num_groups == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kv_dtype", [None, "int8"])
def test_what_is_said_to_be_done_is_done_and_the_rest_is_as_ever(way: str, dtype: str, kv_dtype: str | None) -> None:
    print(way)
    alone = TorchRig(dtype=dtype, kv_dtype=kv_dtype)
    expected = alone.generate(alone.walker("a", prompt(1)), 4, chunk=17)
    rig = TorchRig(dtype=dtype, kv_dtype=kv_dtype)
    said: list[int] = []
    copies: list[tuple[tuple[PageId, ...], LayerSpan, bytes]] = []

    def listener(step: Step, num_layers: int) -> None:
        span = LayerSpan(first=num_layers - 1, num=1)
        copies.extend((row.pages, span, copy_layers(rig.storage, row.pages, span)) for row in step.rows)
        said.append(num_layers)

    listening(rig, NUM_LAYERS, listener)
    walker = rig.walker("a", prompt(1))
    for end in (17, 34, 40):
        rig.advance(walker, count=17)
        assert walker.num_computed == end
        assert said == [1, 2, 3]
        assert all(copy_layers(rig.storage, pages, span) == early for pages, span, early in copies)
        said.clear()
        copies.clear()
    assert [*walker.tokens[-1:], *rig.generate(walker, 3)] == expected
    assert said == [1, 2, 3] * 3


def test_on_a_gpu_layers_are_told_of_as_they_are_launched() -> None:
    """Here in the interpreter, which has done them by then; before the word, the streams know how far the step is."""
    with interpreted():
        rig = TorchRig()
        said: list[int] = []
        reached: list[int] = []
        copies: list[tuple[LayerSpan, bytes]] = []
        walker = rig.walker("a", prompt(1, 9))

        def listener(step: Step, num_layers: int) -> None:
            assert len(reached) == num_layers
            span = LayerSpan(first=num_layers - 1, num=1)
            copies.append((span, copy_layers(rig.storage, step.rows[0].pages, span)))
            said.append(num_layers)

        listening(rig, NUM_LAYERS, listener)
        reach = rig.storage.streams.reach
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rig.storage.streams, "reach", lambda: (reached.append(1), reach()))
            row = rig.row(walker)
            rig.step(row)
        assert said == [1, 2, 3]
        assert len(reached) == 4, "the last one behind all of the step"
        assert all(copy_layers(rig.storage, row.pages, span) == early for span, early in copies)


@pytest.mark.parametrize("dtype", DTYPES)
def test_with_one_group_or_without_a_listener_nothing_is_said(dtype: str) -> None:
    rig = TorchRig(dtype=dtype)
    said: list[int] = []
    listening(rig, 1, lambda _step, num_layers: said.append(num_layers))
    rig.advance(rig.walker("a", prompt(1)))
    rig.executor.news = LayerNews(NUM_LAYERS, 3)
    rig.advance(rig.walker("b", prompt(2)))
    assert said == []


def test_a_step_that_is_repeated_row_by_row_says_nothing_twice() -> None:
    rig = TorchRig()
    said: list[int] = []
    listening(rig, NUM_LAYERS, lambda _step, num_layers: said.append(num_layers))
    good, bad = rig.row(rig.walker("good", prompt(1))), rig.row(rig.walker("bad", prompt(2)))
    bad = replace(bad, tokens=(TokenId(SHAPE.vocab), *bad.tokens[1:]))
    result = rig.step(good, bad)
    assert result.failed == (SequenceId(RequestId("bad")),)
    assert said == []
    rig.step(good)
    assert said == [1, 2, 3]


def test_a_listener_that_fails_is_not_taken_for_poison() -> None:
    rig = TorchRig()

    def listener(_step: Step, _num_layers: int) -> None:
        raise ValueError("mine")

    listening(rig, NUM_LAYERS, listener)
    with pytest.raises(InternalError, match="mine"):
        rig.advance(rig.walker("a", prompt(1)))


def test_the_simulated_executor_shows_no_layer_before_its_word() -> None:
    """Storms with layers would prove nothing otherwise."""
    storage, news = SimStorage(LAYOUT, 8), LayerNews(LAYOUT.num_layers, 2)
    seen: list[tuple[int, bytes]] = []
    news.listener = lambda step, done: seen.append((done, bytes(storage.page(step.rows[0].pages[0]))))
    tokens = tuple(TokenId(token) for token in prompt(1, PAGE_SIZE))
    row = StepRow(sequence=SequenceId(RequestId("a")), tokens=tokens, start=0, pages=(PageId(3),))
    SimExecutor(storage, news=news).run(Step(rows=(row,)))
    (first, half), (second, whole) = seen
    assert (first, second) == (1, 2)
    size = LAYOUT.page_bytes // 2
    assert half[:size] == whole[:size] != bytes(size)
    assert half[size:] == bytes(size) != whole[size:]
    assert whole == bytes(storage.page(PageId(3)))
