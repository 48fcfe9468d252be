"""Goal: a client that comes back gets each index once from where it says, as far as memory allows."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.core.errors import InvalidRequest, NotFound, Reason
from common.core.ids import TokenId
from common.core.request import FinishReason
from services.router.delta import Delta, joined
from services.router.replay import Replay


def part(first: int, text: str, *, choice: int = 0, offset: int = 0, num_tokens: int = 1, end: bool = False) -> Delta:
    return Delta(
        choice=choice,
        first_index=first,
        tokens=tuple(TokenId(100 + index) for index in range(first, first + num_tokens)),
        text=text,
        text_offset=offset,
        offsets=(offset,) * num_tokens,
        finish=FinishReason.LENGTH if end else None,
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.data())
def test_what_a_client_has_and_what_it_gets_make_the_whole(sizes: list[int], data: st.DataObject) -> None:
    """The client breaks off behind any message; what it had and what it gets again are everything, once."""
    replay, parts, first, chars = Replay(1, max_bytes=1 << 20), [], 0, 0
    for number, size in enumerate(sizes):
        text = "ab" * number
        parts.append(part(first, text, offset=chars, num_tokens=size, end=number == len(sizes) - 1))
        first, chars = first + size, chars + len(text)
    replay.keep(parts)
    had = parts[: data.draw(st.integers(0, len(parts)))]
    seen = had[-1].end + (had[-1].finish is not None) if had else 0
    again = replay.since([seen])
    whole = joined([*had, *again]) if had or again else None
    assert whole == joined(parts)


def test_a_finish_without_a_token_comes_again_unless_it_was_seen() -> None:
    replay = Replay(1, max_bytes=1 << 20)
    replay.keep([part(0, "a"), part(1, "rest", offset=1, num_tokens=0, end=True)])
    assert [delta.text for delta in replay.since([1])] == ["rest"]
    assert replay.since([2]) == ()


def test_an_index_that_was_not_reached_is_refused() -> None:
    replay = Replay(2, max_bytes=1 << 20)
    replay.keep([part(0, "a"), part(0, "b", choice=1)])
    for seen in ([2], [0, 2], [0, 0, 0]):
        with pytest.raises(InvalidRequest):
            replay.since(seen)
    assert [(delta.choice, delta.text) for delta in replay.since([1])] == [(1, "b")]


def test_the_oldest_is_forgotten_and_said_to_be() -> None:
    grown: list[int] = []
    replay = Replay(1, max_bytes=20 * part(0, "").cost_bytes, on_growth=grown.append)
    for index in range(50):
        replay.keep([part(index, "")])
    assert sum(grown) == replay.num_bytes == 20 * part(0, "").cost_bytes
    assert replay.since([30])[0].first_index == 30
    with pytest.raises(NotFound) as caught:
        replay.since([29])
    assert caught.value.reason is Reason.RESUME_EXPIRED
    replay.clear()
    assert sum(grown) == 0
    assert replay.since([50]) == ()


def test_an_end_that_is_forgotten_is_not_passed_over() -> None:
    """Else a client that has all tokens, and not how the answer ended, would never hear it."""
    replay = Replay(2, max_bytes=part(0, "").cost_bytes)
    replay.keep([part(0, "", end=True), part(0, "", choice=1)])
    assert [delta.choice for delta in replay.since([2])] == [1]
    with pytest.raises(NotFound):
        replay.since([1])


def test_a_delta_cut_amid_its_tokens_begins_with_the_text_of_the_next() -> None:
    whole = Delta(
        choice=0,
        first_index=4,
        tokens=tuple(map(TokenId, (1, 2, 3))),
        text="aabbcc",
        text_offset=10,
        offsets=(10, 12, 14),
    )
    rest = whole.since(6)
    assert (rest.first_index, rest.tokens, rest.text, rest.text_offset) == (6, (3,), "cc", 14)
