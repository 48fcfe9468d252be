"""Page geometry: exact bytes, a fingerprint that tells everything apart, a difference people can read."""

from dataclasses import replace
from typing import Any

import pytest

from common.core.errors import Mismatch
from common.kv.layout import PageLayout

LAYOUT = PageLayout(
    num_layers=12, num_kv_heads=4, head_dim=64, page_size=16, dtype="bfloat16", model_digest=b"\x01\x02"
)
OTHERS: dict[str, Any] = {
    "num_layers": 13,
    "num_kv_heads": 8,
    "head_dim": 32,
    "page_size": 32,
    "dtype": "float32",
    "tensor_parallel": 2,
    "model_digest": b"\x03",
}


@pytest.mark.parametrize(("dtype", "element_bytes"), [("float32", 4), ("bfloat16", 2), ("float16", 2)])
def test_a_page_takes_keys_and_values_of_every_layer_and_head(dtype: str, element_bytes: int) -> None:
    layout = replace(LAYOUT, dtype=dtype)
    assert layout.token_bytes == 12 * 2 * 4 * 64 * element_bytes
    assert layout.page_bytes == 16 * layout.token_bytes


def test_eight_bit_pages_bring_a_scale_for_every_vector() -> None:
    layout = replace(LAYOUT, dtype="int8")
    assert layout.token_bytes == 12 * 2 * 4 * (64 + 4)
    assert LAYOUT.difference(layout) == "dtype bfloat16 here, int8 there"


@pytest.mark.parametrize(("tokens", "pages"), [(0, 0), (1, 1), (15, 1), (16, 1), (17, 2), (2048, 128)])
def test_the_last_page_may_be_partly_filled(tokens: int, pages: int) -> None:
    assert LAYOUT.pages_for(tokens) == pages


@pytest.mark.parametrize("name", OTHERS)
def test_changing_any_one_fact_changes_fingerprint_and_difference(name: str) -> None:
    other = replace(LAYOUT, **{name: OTHERS[name]})
    assert other.fingerprint() != LAYOUT.fingerprint()
    assert LAYOUT.difference(other).startswith(f"{name} ")


def test_equal_layouts_have_equal_fingerprints_and_no_difference() -> None:
    twin = replace(LAYOUT)
    assert twin.fingerprint() == LAYOUT.fingerprint()
    assert len(LAYOUT.fingerprint()) == 32
    assert LAYOUT.difference(twin) == ""


def test_the_difference_names_both_sides() -> None:
    other = replace(LAYOUT, page_size=32, dtype="float32")
    assert LAYOUT.difference(other) == "page_size 16 here, 32 there; dtype bfloat16 here, float32 there"


@pytest.mark.parametrize(
    "facts",
    [{"num_layers": 0}, {"dtype": "int4"}, {"tensor_parallel": 3}, {"head_dim": -1}],
    ids=lambda facts: next(iter(facts)),
)
def test_numbers_that_describe_no_page_are_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(Mismatch, match="not a page layout"):
        replace(LAYOUT, **facts)


def test_pages_that_are_not_whole_words_are_refused() -> None:
    with pytest.raises(Mismatch, match="4 bytes"):
        PageLayout(num_layers=1, num_kv_heads=1, head_dim=1, page_size=1, dtype="float16")
