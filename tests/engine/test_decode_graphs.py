"""Recorded decode steps give what steps as they come give, and padding touches no page but the scratch page.

Method: in Triton's interpreter, with a recording that computes anew from the tensors that a graph would replay from.
What is left for a GPU is the capture itself (tests/gpu). Pages start as NaN, so whoever reads what nobody wrote shows.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.step import STAND_IN, Sample, StepRow
from common.engine import decode_graphs
from common.engine.buckets import Buckets, padded
from common.engine.decode_graphs import DecodeGraphs
from common.engine.following import Draws, following
from common.engine.inputs import ragged_tokens
from common.kv.torch_storage import TorchStorage
from common.model.decoder import Decoder
from common.model.spec import ExpertsSpec
from kernels.dispatch import interpreted
from kernels.gpu.launch import INTERPRETER
from kernels.gpu.tuned import tiles
from tests.engine.torch_rig import GREEDY, NAN_BYTE, small_model
from tests.gpu.random_decoder import TINY, random_decoder
from tests.kernels.read_back import NothingReadBack

NUM_PAGES, PAGE_SIZE = 90, 16
BUCKETS = Buckets(sizes=(1, 4))
SPAN = tiles("attention_decode", INTERPRETER, 16, 4).span
"""Keys that one program attends to."""


@pytest.fixture(autouse=True)
def on_a_device() -> Iterator[None]:
    torch.set_num_threads(1)
    small_model.cache_clear()  # weights are laid out for the operators that multiply by them
    with interpreted(), torch.inference_mode():
        yield
    small_model.cache_clear()


def again(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    return run


class Rig:
    """One model, pages with two contexts of their own for each way, and graphs over them."""

    def __init__(self, kv_dtype: str = "float32", decoder: Decoder | None = None) -> None:
        self.decoder = decoder or small_model().decoder
        layout = self.decoder.spec.page_layout(page_size=PAGE_SIZE, dtype=kv_dtype, model_digest=b"")
        self.storage = TorchStorage(layout, NUM_PAGES, has_scratch=True)
        self.storage.kv_PL2HSD.view(torch.uint8).fill_(NAN_BYTE)
        assert self.storage.scratch is not None
        self.scratch: PageId = self.storage.scratch
        self._free = iter(range(NUM_PAGES))

    @property
    def kv(self) -> Tensor:
        return self.storage.kv_PL2HSD

    def graphs(self) -> DecodeGraphs:
        return DecodeGraphs(self.decoder, self.kv, scratch=self.scratch, buckets=BUCKETS, record=again)

    def eager(self, *rows: StepRow) -> Tensor:
        return self.decoder.forward(ragged_tokens(rows, self.kv), self.kv)

    def row(self, name: str, length: int) -> StepRow:
        """The last token of a context whose other tokens are computed."""
        tokens = [TokenId(1 + (7 * place + length) % 500) for place in range(length)]
        pages = tuple(PageId(next(self._free)) for _ in range(-(-length // PAGE_SIZE)))
        whole = StepRow(sequence=SequenceId(RequestId(name)), tokens=tuple(tokens[:-1]), start=0, pages=pages)
        if length > 1:
            self.eager(whole)
        sample = Sample(seed=0, position=length, sampling=GREEDY)
        return StepRow(sequence=whole.sequence, tokens=(tokens[-1],), start=length - 1, pages=pages, samples=(sample,))


@pytest.mark.parametrize("kv_dtype", ["float32", "int8"])
def test_a_padded_step_has_the_bits_of_the_same_step_computed_as_it_comes(kv_dtype: str) -> None:
    """Steps of other sizes and other contexts in between: nothing of an earlier one may stay."""
    rig = Rig(kv_dtype)
    graphs = rig.graphs()
    lengths = [[66, 1, 5], [3], [9, 2]]
    for number, step in enumerate(lengths):
        rows = [rig.row(f"{number}-{place}", length) for place, length in enumerate(step)]
        found = graphs.forward(rows)
        assert found is not None
        found, size = found.clone(), BUCKETS.choose(len(rows))
        assert size is not None
        # Of every row the logits: a product with fewer rows may sum in another order.
        filled = [replace(row, samples=rows[0].samples) for row in padded(rows, size, rig.scratch)]
        assert torch.equal(found, rig.eager(*filled)[: len(rows)])
        torch.testing.assert_close(found, rig.eager(*rows), rtol=1e-4, atol=1e-4)


def decoder_of_experts() -> Decoder:
    """One layer of four experts, of which two compute a token."""
    experts = ExpertsSpec(num_experts=4, num_chosen=2, intermediate=32, is_normalized=True)
    spec = replace(TINY, layers=(replace(TINY.layers[0], experts=experts),))
    return random_decoder(spec, dtype=torch.float32, device=torch.device("cpu"), max_context=256)


def test_experts_are_computed_within_a_recorded_step() -> None:
    """Which of them is known on the device alone: nothing is read back, and other tokens choose others."""
    rig = Rig(decoder=decoder_of_experts())
    graphs = rig.graphs()
    for lengths in ([9, 4], [7, 12]):
        rows = [rig.row("r", length) for length in lengths]
        with NothingReadBack():
            found = graphs.forward(rows)
        assert found is not None
        torch.testing.assert_close(found, rig.eager(*rows), rtol=1e-4, atol=1e-4)


def test_a_recorded_step_takes_a_token_that_the_step_before_it_drew_from_where_it_was_drawn() -> None:
    rig = Rig()
    graphs = rig.graphs()
    known = [rig.row("a", 9), rig.row("b", 20)]
    behind = replace(known[1], tokens=(STAND_IN,), follows=1)
    last = Draws(ids_S=torch.tensor([3, known[1].tokens[0]]), places=[0, 1])
    expected = graphs.forward(known)
    assert expected is not None
    expected = expected.clone()
    rows = [known[0], behind]
    found = graphs.forward(rows, following(rows, last, vocab_size=512))
    assert found is not None
    assert torch.equal(found, expected)


def test_a_padded_step_writes_its_own_slots_and_the_scratch_page_and_nothing_else() -> None:
    rig = Rig()
    rows = [rig.row("a", 20), rig.row("b", 5)]
    graphs = rig.graphs()
    before = rig.kv.clone()
    graphs.forward(rows)
    changed = (rig.kv.view(torch.int32) != before.view(torch.int32)).nonzero()[:, [0, 4]]
    written = {(int(page), int(slot)) for page, slot in changed}
    own = {(row.pages[row.start // PAGE_SIZE], row.start % PAGE_SIZE) for row in rows}
    assert own <= written
    assert written <= own | {(rig.scratch, 0)}


def test_recording_touches_the_scratch_page_alone() -> None:
    rig = Rig()
    before = rig.kv[:NUM_PAGES].clone()
    rig.graphs()
    assert torch.equal(rig.kv[:NUM_PAGES].view(torch.int32), before.view(torch.int32))


def test_a_step_that_was_not_recorded_is_left_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than the largest size, more than one token, more spans than there is room for."""
    monkeypatch.setattr(decode_graphs, "MORE_SPANS", 1)
    rig = Rig()
    graphs = rig.graphs()
    short = rig.row("short", 1)
    assert graphs.forward([short] * 5) is None
    assert graphs.forward([replace(short, tokens=(TokenId(1),) * 2)]) is None
    long = replace(short, start=4 * SPAN, pages=tuple(PageId(page) for page in range(4 * SPAN // PAGE_SIZE + 1)))
    assert graphs.forward([long, short]) is None, "eight spans, padding included, for five places"
    assert graphs.forward([short, short]) is not None


@pytest.mark.parametrize("change", [{"tokens": (TokenId(512),)}, {"pages": (PageId(NUM_PAGES + 1),)}])
def test_a_row_that_no_model_can_compute_raises_before_anything_runs(change: dict[str, object]) -> None:
    rig = Rig()
    graphs = rig.graphs()
    good, bad = rig.row("good", 5), replace(rig.row("bad", 6), **change)  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        graphs.forward([good, bad])
    assert graphs.forward([good]) is not None
