"""Sizes of recorded steps, and padding to them."""

import pytest

from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.request import TokenSampling
from common.core.step import Sample, StepRow
from common.engine.buckets import LARGEST_SIZE, Buckets, buckets_up_to, can_be_padded, padded

SAMPLE = Sample(seed=0, position=4, sampling=TokenSampling(temperature=0.0))


def row(name: str, count: int = 1, **facts: object) -> StepRow:
    return StepRow(
        sequence=SequenceId(RequestId(name)),
        tokens=tuple(TokenId(token) for token in range(count)),
        start=3,
        pages=(PageId(7),),
        **{"samples": (SAMPLE,), **facts},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("max_rows", "sizes"),
    [
        (1, (1,)),
        (3, (1, 2, 3)),
        (16, (1, 2, 4, 8, 16)),
        (20, (1, 2, 4, 8, 16, 20)),
        (64, (1, 2, 4, 8, 16, 32, 48, 64)),
    ],
)
def test_sizes_double_then_grow_evenly_and_end_at_the_largest_batch(max_rows: int, sizes: tuple[int, ...]) -> None:
    assert buckets_up_to(max_rows).sizes == sizes


def test_every_batch_up_to_the_limit_has_the_smallest_size_that_holds_it() -> None:
    for max_rows in (1, 7, 33, 100, 4096):
        buckets = buckets_up_to(max_rows)
        last = min(max_rows, LARGEST_SIZE)
        assert buckets.sizes[-1] == last
        for num_rows in range(1, last + 1):
            size = buckets.choose(num_rows)
            assert size is not None
            assert size >= num_rows
            assert not any(num_rows <= other < size for other in buckets.sizes)
        assert buckets.choose(last + 1) is None


def test_a_padded_step_is_the_step_and_rows_that_write_to_the_scratch_page_alone() -> None:
    rows = [row("a"), row("b"), row("c")]
    filled = padded(rows, 8, PageId(99))
    assert filled[:3] == rows
    assert len(filled) == 8
    for nothing in filled[3:]:
        assert (nothing.pages, nothing.start, len(nothing.tokens), nothing.samples) == ((99,), 0, 1, ())
    assert padded(rows, 3, PageId(99)) == rows


def test_only_steps_of_single_tokens_that_all_draw_are_padded() -> None:
    assert can_be_padded([row("a"), row("b")])
    assert not can_be_padded([row("a"), row("b", count=2)])
    assert not can_be_padded([row("a", samples=())])
    assert not can_be_padded([row("a", targets=(TokenId(1),))])
    assert not can_be_padded([row("a", count=0)])


def test_sizes_that_do_not_rise_are_a_bug() -> None:
    with pytest.raises(AssertionError):
        Buckets(sizes=(4, 2))
