"""Which pages become ready when: over a request's life every page from the held ones on, once, whole."""

from collections import deque
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from common.core.errors import InvalidRequest
from common.kv.layout import LayerSpan
from common.transfer.messages import PageRun
from common.transfer.plan import join, max_run_pages, plan_runs, run_bytes, split


@given(
    prompt=st.integers(1, 400),
    page_size=st.integers(1, 32),
    held=st.integers(0, 10),
    cuts=st.lists(st.integers(0, 400), max_size=8),
    most=st.integers(1, 7),
)
def test_every_page_from_the_held_ones_on_is_planned_once_and_in_order(
    prompt: int, page_size: int, held: int, cuts: list[int], most: int
) -> None:
    held = min(held, prompt // page_size)
    borders = [0, *sorted(min(cut, prompt) for cut in cuts), prompt]
    planned: list[int] = []
    for before, after in pairwise(borders):
        for run in plan_runs(
            held_pages=held,
            tokens_before=before,
            tokens_after=after,
            is_last=False,
            page_size=page_size,
            max_run_pages=most,
        ):
            assert 1 <= run.num_pages <= most
            assert run.end * page_size <= after
            planned.extend(range(run.first_page, run.end))
    last = plan_runs(
        held_pages=held,
        tokens_before=prompt,
        tokens_after=prompt,
        is_last=True,
        page_size=page_size,
        max_run_pages=most,
    )
    planned.extend(page for run in last for page in range(run.first_page, run.end))
    assert planned == list(range(held, -(-prompt // page_size)))


def test_the_partial_page_at_the_end_travels_only_with_the_last_chunk() -> None:
    chunk = {"held_pages": 0, "tokens_before": 16, "tokens_after": 39, "page_size": 16, "max_run_pages": 8}
    assert plan_runs(is_last=False, **chunk) == (PageRun(first_page=1, num_pages=1),)
    assert plan_runs(is_last=True, **chunk) == (PageRun(first_page=1, num_pages=2),)


def test_a_run_is_cut_into_pieces_that_fit_a_buffer() -> None:
    pieces = split(PageRun(first_page=3, num_pages=5), max_run_pages(1000, 400))
    assert pieces == (
        PageRun(first_page=3, num_pages=2),
        PageRun(first_page=5, num_pages=2),
        PageRun(first_page=7, num_pages=1),
    )
    assert [run_bytes(piece, 400) for piece in pieces] == [800, 800, 400]


def test_a_page_larger_than_a_buffer_is_refused_with_both_numbers() -> None:
    with pytest.raises(InvalidRequest, match="400 bytes does not fit a staging buffer of 399"):
        max_run_pages(399, 400)


def test_runs_that_wait_one_behind_the_other_leave_together_as_far_as_a_buffer_holds_them() -> None:
    waiting = deque(PageRun(first_page=first, num_pages=2) for first in (4, 6, 8, 20))
    joined = [join(waiting, 5) for _ in range(3)]
    assert joined == [PageRun(first_page=first, num_pages=num) for first, num in ((4, 4), (8, 2), (20, 2))]
    assert not waiting


def test_runs_of_some_layers_leave_as_they_are() -> None:
    layers = LayerSpan(first=0, num=1)
    waiting = deque(PageRun(first_page=first, num_pages=1, layers=layers) for first in (0, 1))
    assert join(waiting, 5).num_pages == 1
