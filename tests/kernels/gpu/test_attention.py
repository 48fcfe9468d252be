"""Attention on a GPU: right against the oracle over ugly shapes, the same bits in every batch and for every cut.

Pages that nobody wrote are NaN, what wrappers allocate is too: whoever reads either fails.
"""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kernels.attention_form import AttentionForm
from kernels.gpu.tuned import SMALL
from kernels.quantized_pages import LARGEST
from tests.kernels.gpu.contexts import Contexts, Heads, Span

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 4e-2, torch.float16: 5e-3}
PLAIN = AttentionForm(scale=0.2)
NARROW = AttentionForm(scale=0.2, window=11, softcap=2.0)
WIDE = AttentionForm(scale=0.2, window=90)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """NaN is never close."""
    assert (actual.float() - expected.float()).abs().max() < TOLERANCE[expected.dtype]


def last(context: int, length: int) -> Span:
    """A decoded token."""
    return Span(context=context, first=length - 1, end=length)


def mixed(lengths: list[int]) -> list[Span]:
    """Decoded tokens, a few to verify about the end of the first span, and a chunk of a prompt, whatever the lengths
    allow."""
    few = [
        Span(context=place, first=length - 3, end=length) for place, length in enumerate(lengths) if 60 < length < 100
    ]
    chunks = [
        Span(context=place, first=length - 20, end=length) for place, length in enumerate(lengths) if length > 100
    ]
    return [last(place, length) for place, length in enumerate(lengths)] + few + chunks


@pytest.mark.parametrize("form", [PLAIN, NARROW, WIDE], ids=["plain", "narrow", "wide"])
@pytest.mark.parametrize(
    ("heads", "page_size", "dtype"),
    [
        (Heads(query=3, key=1, dim=64), 16, torch.bfloat16),
        (Heads(query=4, key=2, dim=80), 16, torch.float16),
        (Heads(query=5, key=1, dim=96), 24, torch.float32),
        (Heads(query=1, key=1, dim=128), 1, torch.bfloat16),
        (Heads(query=8, key=1, dim=256), 64, torch.float32),
        (Heads(query=7, key=1, dim=16), 8, torch.float32),
    ],
    ids=str,
)
def test_mixed_rows_equal_the_oracle(
    heads: Heads, page_size: int, dtype: torch.dtype, form: AttentionForm, device: torch.device
) -> None:
    """Lengths around a page, a span (64 in the interpreter) and a tile."""
    lengths = [1, 15, 17, 64, 65, 131]
    contexts = Contexts(lengths, heads, device, page_size=page_size, dtype=dtype)
    assert_close(contexts.attend(mixed(lengths), form), contexts.expected(mixed(lengths), form))


@pytest.mark.parametrize("kv_dtype", list(LARGEST), ids=str)
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_eight_bit_pages_equal_the_oracle_over_the_same_pages(
    dtype: torch.dtype, kv_dtype: torch.dtype, device: torch.device
) -> None:
    lengths = [1, 65, 129]
    contexts = Contexts(lengths, Heads(query=6, key=2, dim=80), device, dtype=dtype, kv_dtype=kv_dtype)
    assert_close(contexts.attend(mixed(lengths), WIDE), contexts.expected(mixed(lengths), WIDE))


@pytest.mark.parametrize("form", [PLAIN, NARROW], ids=["plain", "narrow"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_decoded_token_has_the_same_bits_in_every_batch(
    dtype: torch.dtype, form: AttentionForm, device: torch.device
) -> None:
    lengths = [1, 30, 64, 131, 200]
    contexts = Contexts(lengths, Heads(query=3, key=1, dim=32), device, dtype=dtype)
    spans = [last(place, length) for place, length in enumerate(lengths)]
    together = contexts.attend(spans, form)
    for place in (0, 3, 4):
        assert torch.equal(contexts.attend([spans[place]], form)[0], together[place])
    beside = contexts.attend([*reversed(spans), Span(context=4, first=100, end=103)], form)
    assert torch.equal(beside[:5].flip(0), together)


@pytest.mark.parametrize("form", [PLAIN, WIDE], ids=["plain", "window"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_prompt_has_the_same_bits_for_every_cut_into_chunks(
    dtype: torch.dtype, form: AttentionForm, device: torch.device
) -> None:
    contexts = Contexts([150, 40], Heads(query=3, key=1, dim=32), device, dtype=dtype)
    whole = contexts.attend([Span(context=0, first=0, end=150)], form)
    chunks = [Span(context=0, first=first, end=end) for first, end in pairwise([0, 17, 64, 133, 150])]
    assert torch.equal(contexts.attend([*chunks, Span(context=1, first=3, end=40)], form)[:150], whole)


@pytest.mark.parametrize("form", [PLAIN, NARROW], ids=["plain", "narrow"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_in_exact_mode_extend_verify_and_decode_agree_in_every_bit(
    dtype: torch.dtype, form: AttentionForm, device: torch.device
) -> None:
    """Whole, in chunks of any size, and token by token over several spans."""
    contexts = Contexts([150], Heads(query=3, key=1, dim=32), device, dtype=dtype)
    whole = contexts.attend([Span(context=0, first=0, end=150)], form, is_exact=True)
    cuts = [0, 1, 18, 128, 149, 150]
    chunks = [Span(context=0, first=first, end=end) for first, end in pairwise(cuts)]
    assert torch.equal(contexts.attend(chunks, form, is_exact=True), whole)
    lengths = [1, 64, 65, 150]
    decoded = contexts.attend([last(0, length) for length in lengths], form, is_exact=True)
    assert torch.equal(decoded, whole[torch.tensor(lengths, device=device) - 1])


def test_a_group_larger_than_a_tile_is_one_tile(device: torch.device) -> None:
    contexts = Contexts([40], Heads(query=35, key=1, dim=16), device)
    spans = [last(0, 40), Span(context=0, first=0, end=17)]
    assert_close(contexts.attend(spans, PLAIN), contexts.expected(spans, PLAIN))


def test_pages_before_the_window_are_not_read(device: torch.device) -> None:
    """They may belong to somebody else by now: here they are NaN, also those that share a key tile with the window."""
    contexts = Contexts([124, 147], Heads(query=2, key=1, dim=16), device)
    spans = [last(0, 124), Span(context=1, first=126, end=147)]
    expected = contexts.expected(spans, NARROW)
    for span in spans:
        assert NARROW.window is not None
        first_seen = span.first - NARROW.window + 1
        assert first_seen % SMALL.keys >= 16, "a page ends between the tile's first key and the window's"
        for page in contexts.tables[span.context][: first_seen // 16]:
            contexts.kv[page] = float("nan")
    assert_close(contexts.attend(spans, NARROW), expected)
