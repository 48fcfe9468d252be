"""Attention over pages: right against the oracle, blind to unused slots, the same bits for every chunking and batch."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kernels import reference
from kernels.attention import attention, attention_rows
from kernels.attention_form import AttentionForm
from kernels.cpu.gather import Workspace
from kernels.cpu.library import Native, load_variant
from kernels.cpu.native_attention import NativeRows
from kernels.cpu.threads import set_native_threads
from kernels.cpu.variants import usable_variants
from kernels.kv_store import kv_store, slot_rows
from kernels.quantized_pages import LARGEST, SCALE_BYTES

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 5e-2, torch.float16: 5e-3}
TYPES = list(TOLERANCE)
VARIANTS = {variant.name: variant for variant in usable_variants()}
BEST = next(iter(VARIANTS))
LAYER = 1
FORMS = {
    "plain": AttentionForm(scale=0.2),
    "window": AttentionForm(scale=0.2, window=150),
    "both": AttentionForm(scale=0.2, window=17, softcap=2.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    query: int
    key: int
    dim: int


HEADS = [Heads(query=6, key=2, dim=80), Heads(query=4, key=4, dim=16)]
FEW_QUERIES = [
    *(Heads(query=2 * group, key=2, dim=64) for group in (1, 2, 3, 4, 5, 6)),
    Heads(query=3, key=1, dim=192),
]
"""What native code reads in place, in bf16."""
MORE_HEADS = [*HEADS, Heads(query=7, key=1, dim=128), Heads(query=2, key=1, dim=256), Heads(query=3, key=1, dim=8)]


def poisoned_pages(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Pages that nobody wrote: whoever reads one gets NaN, from its scale where pages are quantized."""
    if dtype not in LARGEST:
        return torch.full(shape, float("nan"), dtype=dtype)
    return torch.full((*shape[:-1], shape[-1] + SCALE_BYTES), -1, dtype=torch.int8).view(dtype)


class Context:
    """One context in randomly chosen pages of a pool filled with NaN."""

    def __init__(
        self,
        heads: Heads,
        length: int,
        page_size: int = 16,
        dtype: torch.dtype = torch.float32,
        form: AttentionForm = FORMS["plain"],
        kv_dtype: torch.dtype | None = None,
    ) -> None:
        torch.manual_seed(length)
        num_pages = -(-length // page_size)
        self.page_size = page_size
        self.form = form
        self.pages = random.Random(length).sample(range(num_pages + 5), num_pages)
        self.kv = poisoned_pages((num_pages + 5, 3, 2, heads.key, page_size, heads.dim), kv_dtype or dtype)
        self.q = torch.randn(length, heads.query, heads.dim, dtype=dtype)
        self.k = torch.randn(length, heads.key, heads.dim, dtype=dtype)
        self.v = torch.randn(length, heads.key, heads.dim, dtype=dtype)

    def store(self, start: int, end: int) -> None:
        positions_T = torch.arange(start, end)
        pages_T = torch.tensor(self.pages)[positions_T // self.page_size]
        offsets_T = positions_T % self.page_size
        rows = slot_rows(self.kv, pages_T, offsets_T)
        kv_store(self.kv, LAYER, rows, self.k[start:end], self.v[start:end])

    def table(self, length: int) -> list[int]:
        return self.pages[: -(-length // self.page_size)]

    def extend(self, start: int, end: int) -> Tensor:
        self.store(start, end)
        return self.attend([(start, end)])

    def attend(self, spans: Sequence[tuple[int, int]]) -> Tensor:
        """Rows of this context, from a position to another, in one call."""
        starts, counts = [start for start, _ in spans], [end - start for start, end in spans]
        rows = attention_rows([self.table(end) for _, end in spans], starts, counts, self.kv)
        q_THD = torch.cat([self.q[start:end] for start, end in spans])
        return attention(q_THD, self.kv, LAYER, rows, Workspace(), self.form)

    def expected(self, start: int, end: int) -> Tensor:
        return reference.attention(self.q[start:end], self.kv, LAYER, self.table(end), start, self.form)


with_torch_and_best = pytest.mark.parametrize("library", ["torch", BEST], indirect=True)


@pytest.fixture(params=["torch", *VARIANTS])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Native | None]:
    """Torch's operators, and every instruction set that this processor has."""
    native = None if request.param == "torch" else load_variant(VARIANTS[request.param]).native
    if native is None and request.param != "torch":
        pytest.skip(f"no library for {request.param}")
    monkeypatch.setattr("kernels.attention.native", lambda: native)
    yield native
    if native is not None:
        set_native_threads(native, 1)


def use_threads(library: Native | None, count: int) -> None:
    if library is None:
        torch.set_num_threads(count)
    else:
        set_native_threads(library, count)


def is_exact(library: Native | None, dtype: torch.dtype) -> bool:
    """Torch's own products keep the promise in fp32 only."""
    return library is not None or dtype is torch.float32


def assert_close(actual: Tensor, expected: Tensor) -> None:
    assert (actual.float() - expected.float()).abs().max() < TOLERANCE[expected.dtype]


@pytest.mark.parametrize("page", [-1, 8])
def test_a_page_that_does_not_exist_is_refused(page: int, library: Native | None) -> None:
    context = Context(HEADS[0], 40)
    for count in (1, 20):
        with pytest.raises(IndexError):
            attention_rows([[0, page]], [20 - count], [count], context.kv)


def test_a_table_too_short_for_its_context_is_refused(library: Native | None) -> None:
    with pytest.raises(IndexError):
        attention_rows([[0, 1]], [0], [33], Context(HEADS[0], 40).kv)


def test_rows_are_native_where_a_library_is(library: Native | None) -> None:
    rows = attention_rows([[0, 1]], [0], [20], Context(HEADS[0], 40).kv)
    assert isinstance(rows, NativeRows) == (library is not None)


def test_a_head_dim_that_native_code_cannot_read_is_left_to_torch(library: Native | None) -> None:
    context = Context(Heads(query=2, key=2, dim=20), 40)
    assert_close(context.extend(0, 40), context.expected(0, 40))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("heads", MORE_HEADS, ids=str)
def test_extend_equals_the_oracle(heads: Heads, form: str, dtype: torch.dtype, library: Native | None) -> None:
    context = Context(heads, 210, dtype=dtype, form=FORMS[form])
    context.store(0, 210)
    for start, end in [(0, 1), (0, 15), (0, 17), (5, 63), (63, 64), (63, 66), (0, 210)]:
        assert_close(context.attend([(start, end)]), context.expected(start, end))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_a_mixed_batch_equals_the_oracle(heads: Heads, form: str, dtype: torch.dtype, library: Native | None) -> None:
    context = Context(heads, 1100, dtype=dtype, form=FORMS[form])
    context.store(0, 1100)
    spans = [(length - 1, length) for length in (1, 15, 16, 17, 511, 512, 513, 1024, 1025, 1100)]
    spans += [(3, 40), (1020, 1030), (0, 65)]
    out = context.attend(spans)
    assert_close(out, torch.cat([context.expected(start, end) for start, end in spans]))


@with_torch_and_best
@pytest.mark.parametrize("page_size", [1, 24, 512, 1024])
def test_page_sizes_need_not_divide_a_tile(page_size: int, library: Native | None) -> None:
    context = Context(HEADS[0], 600, page_size)
    assert_close(context.extend(0, 600), context.expected(0, 600))


def test_queries_may_lie_apart_inside_a_fused_projection(library: Native | None) -> None:
    context = Context(HEADS[1], 90)
    expected = context.extend(0, 90)
    num_heads, head_dim = context.q.shape[1:]
    fused_TXD = torch.full((90, num_heads + 5, head_dim), float("nan"))
    fused_TXD[:, :num_heads] = context.q
    rows = attention_rows([context.pages], [0], [90], context.kv)
    assert torch.equal(
        attention(fused_TXD[:, :num_heads], context.kv, LAYER, rows, Workspace(), context.form), expected
    )


@with_torch_and_best
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_token_has_the_same_bits_for_every_chunking(
    heads: Heads, form: str, dtype: torch.dtype, threads: int, library: Native | None
) -> None:
    """Whole prompt, chunks of any size, one by one: the method is to compare random cuts with the whole."""
    if not is_exact(library, dtype) or (FORMS[form].softcap is not None and library is None):
        pytest.skip("no promise")
    use_threads(library, threads)
    length = 1300
    expected = Context(heads, length, dtype=dtype, form=FORMS[form]).extend(0, length)
    for seed in range(4):
        cuts = sorted({0, length, *random.Random(seed).choices([1, 3, 16, 17, 100, 511, 512, 513, 800, 1298], k=4)})
        context = Context(heads, length, dtype=dtype, form=FORMS[form])
        out = torch.cat([context.extend(start, end) for start, end in pairwise(cuts)])
        assert torch.equal(out, expected), f"cuts {cuts}"


@with_torch_and_best
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_decoded_token_has_the_same_bits_as_an_extended_one_in_every_batch(
    heads: Heads, dtype: torch.dtype, threads: int, library: Native | None
) -> None:
    if not is_exact(library, dtype):
        pytest.skip("no promise")
    context = Context(heads, 2300, dtype=dtype)
    expected = context.extend(0, 2300)
    use_threads(library, threads)
    for seed in range(6):
        chosen = random.Random(seed)
        lengths = sorted(chosen.choices([1, 2, 16, 17, 200, 512, 513, 900, 1300, 2300], k=chosen.randint(1, 12)))
        out = context.attend([(length - 1, length) for length in lengths])
        assert torch.equal(out, expected[torch.tensor(lengths) - 1]), f"seed {seed}: lengths {lengths}"


@pytest.mark.parametrize("library", [BEST], indirect=True)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("page_size", "dtype", "kv_dtype"),
    [
        (16, torch.bfloat16, None),
        (48, torch.bfloat16, None),
        (48, torch.float32, None),
        (16, torch.float16, None),
        (16, torch.float32, torch.int8),
        (48, torch.bfloat16, torch.float8_e4m3fn),
    ],
)
@pytest.mark.parametrize("heads", [*FEW_QUERIES, Heads(query=7, key=1, dim=64)], ids=str)
def test_few_queries_over_pages_have_the_bits_of_many_over_copies(
    heads: Heads, page_size: int, dtype: torch.dtype, kv_dtype: torch.dtype | None, form: str, library: Native | None
) -> None:
    """Contexts of every length up to three tiles and around a span, alone and by twos; unused slots are NaN."""
    context = Context(heads, 1100, page_size, dtype=dtype, kv_dtype=kv_dtype, form=FORMS[form])
    lengths = [*range(1, 195), 1023, 1024, 1025, 1088, 1100]
    expected_THD = context.extend(0, 1100)
    assert_close(context.attend([(1099, 1100)]), context.expected(1099, 1100))
    for count in (1, 2):
        ends = [length for length in lengths if length >= count]
        for end in ends[-3:]:
            use_threads(library, 2)  # spans of one context run on both
            assert torch.equal(context.attend([(end - count, end)]), expected_THD[end - count : end]), end
        use_threads(library, 1)
        together_THD = torch.cat([expected_THD[end - count : end] for end in ends])
        assert torch.equal(context.attend([(end - count, end) for end in ends]), together_THD), f"{count} at a time"


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_slots_behind_a_context_are_not_heard_of(dtype: torch.dtype, library: Native | None) -> None:
    """The same page with and without NaN in the slots that hold no token yet."""
    context = Context(FEW_QUERIES[2], 64, dtype=dtype)
    context.store(0, 64)
    clean = [context.attend([(length - 1, length)]) for length in range(1, 65)]
    for length, expected in enumerate(clean, start=1):
        own = Context(FEW_QUERIES[2], 64, dtype=dtype)
        own.store(0, length)
        assert torch.equal(own.attend([(length - 1, length)]), expected), f"{length} tokens"


def test_every_instruction_set_is_exact(library: Native | None) -> None:
    context = Context(HEADS[0], 300)
    expected = context.extend(0, 300)
    assert torch.equal(torch.cat([context.extend(start, end) for start, end in pairwise([0, 1, 130, 300])]), expected)
    assert torch.equal(context.attend([(length - 1, length) for length in range(1, 301)]), expected)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(("heads", "kv_dtype"), list(zip(HEADS, LARGEST, strict=True)), ids=str)
def test_eight_bit_pages_equal_the_oracle_over_the_same_pages(
    heads: Heads, kv_dtype: torch.dtype, dtype: torch.dtype, library: Native | None
) -> None:
    context = Context(heads, 1100, page_size=24, dtype=dtype, kv_dtype=kv_dtype, form=FORMS["window"])
    context.store(0, 1100)
    spans = [(length - 1, length) for length in (1, 15, 17, 512, 1025, 1100)] + [(3, 40), (1020, 1030), (0, 65)]
    assert_close(context.attend(spans), torch.cat([context.expected(start, end) for start, end in spans]))


@with_torch_and_best
@pytest.mark.parametrize(
    ("dtype", "kv_dtype"), [*((each, torch.float8_e4m3fn) for each in TYPES), (TYPES[0], torch.int8)]
)
def test_a_token_over_eight_bit_pages_has_the_same_bits_for_every_chunking(
    dtype: torch.dtype, kv_dtype: torch.dtype, library: Native | None
) -> None:
    if not is_exact(library, dtype):
        pytest.skip("no promise")
    expected = Context(HEADS[0], 1300, dtype=dtype, kv_dtype=kv_dtype).extend(0, 1300)
    context = Context(HEADS[0], 1300, dtype=dtype, kv_dtype=kv_dtype)
    out = torch.cat([context.extend(start, end) for start, end in pairwise([0, 1, 3, 511, 800, 1299, 1300])])
    assert torch.equal(out, expected)
