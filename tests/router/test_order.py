"""Goal: a client sees 0, 1, 2, ... whatever workers and networks do. Method: generated deliveries."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.core.errors import InternalError
from common.core.ids import TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import FinishReason
from services.router.order import MAX_AHEAD, Ending, TokenOrder

END = Ending(reason=FinishReason.STOP, stop_token=TokenId(7))


def tokens(first: int, last: int) -> tuple[TokenId, ...]:
    return tuple(TokenId(1000 + index) for index in range(first, last))


def told(token: int) -> TokenLogprobs:
    return TokenLogprobs(logprob=-float(token), rank=1)


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


def test_what_came_early_counts_and_not_what_another_worker_says_of_it_later() -> None:
    """Tokens, their log probabilities, and the end: of an index that still waits for those before it."""
    order = TokenOrder()
    order.accept(1, (TokenId(5),), logprobs=(told(5),))
    assert order.accept(1, (TokenId(6),), END, (told(6),)) is None
    ready = order.accept(0, (TokenId(4),), logprobs=(told(4),))
    assert ready is not None
    assert (ready.tokens, ready.logprobs) == ((4, 5), (told(4), told(5)))
    assert ready.ending is None, "the end of another text"
    assert order.conflicts == 1


def test_nothing_is_delivered_from_beyond_the_end() -> None:
    order = TokenOrder()
    order.accept(3, tokens(3, 5))
    order.accept(1, tokens(1, 3), END)
    ready = order.accept(0, tokens(0, 1))
    assert ready is not None
    assert (ready.tokens, ready.ending) == (tokens(0, 3), END)


def test_one_token_is_not_taken_alone_where_more_waits_behind_it() -> None:
    for early in (tokens(1, 2), ()):
        order = TokenOrder()
        order.accept(1, early, END)
        assert not order.take_next(0, TokenId(1000))
        ready = order.accept(0, tokens(0, 1))
        assert ready is not None
        assert (ready.tokens, ready.ending) == (tokens(0, 1 + len(early)), END)
        assert not order.take_next(order.next_index, TokenId(9)), "nothing comes after the end"


def test_a_token_far_ahead_of_a_missing_one_is_a_bug_and_not_buffered() -> None:
    order = TokenOrder()
    order.accept(MAX_AHEAD, tokens(MAX_AHEAD, MAX_AHEAD + 1))
    with pytest.raises(InternalError):
        order.accept(MAX_AHEAD + 1, tokens(MAX_AHEAD + 1, MAX_AHEAD + 2))
