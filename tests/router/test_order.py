"""Goal: a client sees 0, 1, 2, ... whatever workers and networks do. Method: generated deliveries."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.core.errors import InternalError
from common.core.ids import TokenId
from common.core.request import FinishReason
from services.router.order import MAX_AHEAD, Ending, TokenOrder

END = Ending(reason=FinishReason.STOP, stop_token=TokenId(7))


def tokens(first: int, last: int) -> tuple[TokenId, ...]:
    return tuple(TokenId(1000 + index) for index in range(first, last))


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """A length, and spans that cover it: cut at will, repeated, overlapping, in any order."""
    length = draw(st.integers(1, 40))
    cuts = sorted({0, length, *draw(st.lists(st.integers(0, length), max_size=10))})
    spans = list(itertools.pairwise(cuts))
    extra = draw(st.lists(st.tuples(st.integers(0, length - 1), st.integers(1, 8)), max_size=8))
    spans += [(start, min(start + size, length)) for start, size in extra]
    return length, draw(st.permutations(spans))


@given(deliveries())
@settings(max_examples=300, deadline=None)
def test_any_interleaving_gives_each_index_once_and_in_order(delivery: tuple[int, list[tuple[int, int]]]) -> None:
    length, spans = delivery
    order, seen, endings = TokenOrder(), [], []
    for start, end in spans:
        ready = order.accept(start, tokens(start, end), END if end == length else None)
        if ready is not None:
            assert ready.first_index == len(seen)
            seen += ready.tokens
            endings += [ready.ending] if ready.ending else []
    assert tuple(seen) == tokens(0, length)
    assert endings == [END]
    assert order.conflicts == 0


def test_the_end_waits_for_the_tokens_before_it() -> None:
    order = TokenOrder()
    assert order.accept(1, tokens(1, 3), END) is None
    ready = order.accept(0, tokens(0, 1))
    assert ready is not None
    assert ready.tokens == tokens(0, 3)
    assert ready.ending == END


def test_nothing_comes_after_the_end() -> None:
    order = TokenOrder()
    order.accept(0, tokens(0, 2), END)
    assert order.accept(2, tokens(2, 3)) is None
    assert order.next_index == 2


def test_an_end_without_tokens_ends_the_choice() -> None:
    order = TokenOrder()
    order.accept(0, tokens(0, 2))
    ready = order.accept(2, (), END)
    assert ready is not None
    assert ready.tokens == ()
    assert ready.ending == END


def test_the_first_value_wins_and_the_difference_is_counted() -> None:
    order = TokenOrder()
    order.accept(0, (TokenId(5),))
    assert order.accept(0, (TokenId(6),)) is None
    assert order.tokens == [5]
    assert order.conflicts == 1


def test_a_token_far_ahead_of_a_missing_one_is_a_bug_and_not_buffered() -> None:
    order = TokenOrder()
    order.accept(MAX_AHEAD, tokens(MAX_AHEAD, MAX_AHEAD + 1))
    with pytest.raises(InternalError):
        order.accept(MAX_AHEAD + 1, tokens(MAX_AHEAD + 1, MAX_AHEAD + 2))
