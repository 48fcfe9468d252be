"""Attention over pages: right against the oracle, blind to unused slots, the same bits for every chunking and batch."""

import random
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kernels import reference
from kernels.attention_decode import attention_decode, decode_groups
from kernels.attention_extend import attention_extend, extend_row
from kernels.attention_form import AttentionForm
from kernels.cpu.gather import Workspace
from kernels.kv_store import kv_store, slot_rows

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2}
LAYER = 1
FORMS = {
    "plain": AttentionForm(scale=0.2),
    "window": AttentionForm(scale=0.2, window=100),
    "long_window": AttentionForm(scale=0.2, window=520),
    "softcap": AttentionForm(scale=0.2, softcap=2.0),
    "both": AttentionForm(scale=0.2, window=17, softcap=2.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    query: int
    key: int
    dim: int


HEADS = [Heads(query=8, key=4, dim=32), Heads(query=6, key=2, dim=80), Heads(query=4, key=4, dim=16)]


class Context:
    """One context in randomly chosen pages of a pool filled with NaN."""

    def __init__(
        self, heads: Heads, length: int, page_size: int = 16, dtype: torch.dtype = torch.float32, form: str = "plain"
    ) -> None:
        torch.manual_seed(length)
        num_pages = -(-length // page_size)
        self.page_size = page_size
        self.form = FORMS[form]
        self.pages = random.Random(length).sample(range(num_pages + 5), num_pages)
        self.kv = torch.full((num_pages + 5, 3, 2, heads.key, page_size, heads.dim), float("nan"), dtype=dtype)
        self.q = torch.randn(length, heads.query, heads.dim, dtype=dtype)
        self.k = torch.randn(length, heads.key, heads.dim, dtype=dtype)
        self.v = torch.randn(length, heads.key, heads.dim, dtype=dtype)

    def store(self, start: int, end: int) -> None:
        positions_T = torch.arange(start, end)
        pages_T = torch.tensor(self.pages)[positions_T // self.page_size]
        rows = slot_rows(self.kv, pages_T, positions_T % self.page_size)
        kv_store(self.kv, LAYER, rows, self.k[start:end], self.v[start:end])

    def table(self, length: int) -> list[int]:
        return self.pages[: -(-length // self.page_size)]

    def extend(self, start: int, end: int) -> Tensor:
        self.store(start, end)
        row = extend_row(self.table(end), start, end - start, self.kv)
        return attention_extend(self.q[start:end], self.kv, LAYER, row, Workspace(), self.form)

    def expected(self, start: int, end: int) -> Tensor:
        return reference.attention(self.q[start:end], self.kv, LAYER, self.table(end), start, self.form)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    assert (actual.float() - expected.float()).abs().max() < TOLERANCE[expected.dtype] * 4


@pytest.mark.parametrize("page_size", [1, 16, 24])
def test_stored_keys_and_values_lie_in_their_slots_and_nowhere_else(page_size: int) -> None:
    heads = HEADS[0]
    context, expected = Context(heads, 37, page_size), Context(heads, 37, page_size)
    context.store(5, 37)
    positions = torch.arange(5, 37)
    pages = torch.tensor(expected.pages)[positions // page_size]
    reference.kv_store(expected.kv, LAYER, pages, positions % page_size, expected.k[5:], expected.v[5:])
    assert torch.equal(context.kv.isnan(), expected.kv.isnan())
    assert torch.equal(context.kv.nan_to_num(), expected.kv.nan_to_num())


@pytest.mark.parametrize("page", [-1, 8])
def test_a_page_that_does_not_exist_is_refused(page: int) -> None:
    context = Context(HEADS[0], 40)
    with pytest.raises(IndexError):
        slot_rows(context.kv, torch.tensor([0, page]), torch.tensor([0, 0]))
    with pytest.raises(IndexError):
        extend_row([0, page], 0, 20, context.kv)
    with pytest.raises(IndexError):
        decode_groups([[0, page]], [20], context.kv)


def test_a_table_too_short_for_its_context_is_refused() -> None:
    with pytest.raises(IndexError):
        extend_row([0, 1], 0, 33, Context(HEADS[0], 40).kv)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 15), (0, 16), (0, 17), (5, 63), (63, 64), (500, 530), (0, 700)])
def test_extend_equals_the_oracle(heads: Heads, start: int, end: int, dtype: torch.dtype, form: str) -> None:
    context = Context(heads, end, dtype=dtype, form=form)
    context.store(0, end)
    assert_close(context.extend(start, end), context.expected(start, end))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_decode_equals_the_oracle_for_a_mixed_batch(heads: Heads, dtype: torch.dtype, form: str) -> None:
    context = Context(heads, 1100, dtype=dtype, form=form)
    context.store(0, 1100)
    lengths = [1, 15, 16, 17, 511, 512, 513, 1024, 1025, 1100]
    q = torch.stack([context.q[length - 1] for length in lengths])
    groups = decode_groups([context.table(length) for length in lengths], lengths, context.kv)
    out = attention_decode(q, context.kv, LAYER, groups, Workspace(), context.form)
    for row, length in enumerate(lengths):
        assert_close(out[row : row + 1], context.expected(length - 1, length))


@pytest.mark.parametrize("page_size", [1, 24, 512, 1024])
def test_page_sizes_need_not_divide_the_key_tile(page_size: int) -> None:
    context = Context(HEADS[0], 600, page_size)
    assert_close(context.extend(0, 600), context.expected(0, 600))


@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_token_has_the_same_bits_for_every_chunking(heads: Heads, threads: int) -> None:
    """Whole prompt, chunks of any size, one by one: the method is to compare random cuts with the whole."""
    torch.set_num_threads(threads)
    length = 1300
    expected = Context(heads, length).extend(0, length)
    for seed in range(4):
        cuts = sorted({0, length, *random.Random(seed).choices([1, 3, 16, 17, 100, 511, 512, 513, 800, 1298], k=4)})
        context = Context(heads, length)
        out = torch.cat([context.extend(start, end) for start, end in pairwise(cuts)])
        assert torch.equal(out, expected), f"cuts {cuts}"


@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_a_decoded_token_has_the_same_bits_as_an_extended_one_in_every_batch(heads: Heads) -> None:
    context = Context(heads, 1300)
    expected = context.extend(0, 1300)
    for seed in range(6):
        chosen = random.Random(seed)
        lengths = sorted(chosen.choices([1, 2, 16, 17, 200, 512, 513, 900, 1300], k=chosen.randint(1, 12)))
        q = torch.stack([context.q[length - 1] for length in lengths])
        groups = decode_groups([context.table(length) for length in lengths], lengths, context.kv)
        out = attention_decode(q, context.kv, LAYER, groups, Workspace(), context.form)
        assert torch.equal(out, expected[torch.tensor(lengths) - 1]), f"seed {seed}: lengths {lengths}"
