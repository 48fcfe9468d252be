"""GPU attention over shapes that nobody chose, against the oracle in fp64; pages that nobody wrote are NaN."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.attention_form import AttentionForm
from tests.kernels.gpu.contexts import Contexts, Heads, Span

TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 4e-2, torch.float16: 5e-3}
KINDS = (None, torch.int8, torch.float8_e4m3fn)

heads = st.builds(
    lambda group, key, dim: Heads(query=group * key, key=key, dim=dim),
    group=st.integers(1, 9),
    key=st.integers(1, 3),
    dim=st.sampled_from((4, 8, 40, 64, 80, 96, 128, 256)),
)
forms = st.builds(
    AttentionForm,
    scale=st.floats(0.05, 0.5),
    window=st.none() | st.integers(1, 150),
    softcap=st.none() | st.floats(0.5, 40.0),
)


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[int], list[Span]]:
    """Lengths of contexts, and the new tokens of each: one, a few, or many, from anywhere in it."""
    lengths = draw(st.lists(st.integers(1, 140), min_size=1, max_size=3))
    spans = []
    for context, length in enumerate(lengths):
        end = draw(st.integers(1, length))
        count = draw(st.sampled_from((1, 2, 16, 17, 50)))
        spans.append(Span(context=context, first=max(0, end - count), end=end))
    return lengths, spans


@pytest.mark.parametrize("is_exact", [False, True], ids=["default", "exact"])
@settings(max_examples=8, derandomize=True)
@given(
    heads=heads,
    form=forms,
    rows=rows(),
    page_size=st.sampled_from((1, 3, 16, 24, 64)),
    dtype=st.sampled_from(sorted(TOLERANCE, key=str)),
    kind=st.sampled_from(KINDS),
)
def test_any_rows_over_any_pages_equal_the_oracle(
    is_exact: bool,
    heads: Heads,
    form: AttentionForm,
    rows: tuple[list[int], list[Span]],
    page_size: int,
    dtype: torch.dtype,
    kind: torch.dtype | None,
) -> None:
    lengths, spans = rows
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.inference_mode():
        contexts = Contexts(lengths, heads, device, page_size=page_size, dtype=dtype, kv_dtype=kind)
        actual = contexts.attend(spans, form, is_exact=is_exact)
        expected = contexts.expected(spans, form)
    assert (actual.float() - expected.float()).abs().max() < TOLERANCE[dtype]
