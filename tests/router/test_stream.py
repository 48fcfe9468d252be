"""Goal: a client's stream is exact, its text right, its memory bounded. Method: the stream alone, writer and reader."""

import asyncio
from dataclasses import replace

import pytest

from common.core.errors import Cancelled, InternalError
from common.core.events import PromptScored, TokensEmitted
from common.core.ids import RequestId, TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import FinishReason
from services.router.delta import TOKEN_COST_BYTES, Delta
from services.router.replay import Replay
from services.router.request import TextRules, mint_choices
from services.router.stream import MAX_BUFFERED_BYTES, RequestStream
from tests.router.build import request, spelled_text


def emitted(first: int, *tokens: int, choice: int = 0, finish: FinishReason | None = None, stop: int | None = None):
    return TokensEmitted(
        request=RequestId("req"),
        attempt=1,
        choice=choice,
        first_index=first,
        tokens=tuple(map(TokenId, tokens)),
        finish=finish,
        stop_token=None if stop is None else TokenId(stop),
    )


def scored(first: int, *scores: TokenLogprobs) -> PromptScored:
    return PromptScored(request=RequestId("req"), attempt=1, first_position=first, logprobs=scores)


def stream(n: int = 1, *, stops: tuple[str, ...] = (), max_tokens: int = 8, **rules: object) -> RequestStream:
    wanted = request(n=n, rules=TextRules(**{"return_token_ids": True, **rules}))  # type: ignore[arg-type]
    return RequestStream(wanted, [spelled_text(stops) for _ in range(n)], max_tokens=max_tokens)


def read(source: RequestStream):
    """The next deltas; fails when there are none."""
    return asyncio.run(asyncio.wait_for(source.read(), 0.2))


def test_what_a_reader_missed_comes_as_one_delta() -> None:
    source = stream()
    source.accept(emitted(0, 5))
    source.accept(emitted(1, 6, 7))
    (delta,) = read(source) or ()
    assert (delta.first_index, delta.tokens, delta.text) == (0, (5, 6, 7), "5 6 7 ")


def test_choices_do_not_mix() -> None:
    source = stream(2)
    source.accept(emitted(0, 5, choice=1))
    source.accept(emitted(0, 6, choice=0))
    assert [(delta.choice, delta.tokens) for delta in read(source) or ()] == [(0, (6,)), (1, (5,))]


def test_an_event_for_a_choice_that_does_not_exist_is_dropped() -> None:
    assert stream().accept(emitted(0, 5, choice=3)) is None


def test_tokens_after_a_stop_string_do_not_count() -> None:
    source = stream(stops=("6 ",))
    source.accept(emitted(0, 5, 6, 7, 8))
    source.accept(emitted(4, 9))
    (delta,) = read(source) or ()
    assert (delta.tokens, delta.text, delta.finish, delta.stop_string) == ((5, 6), "5 ", FinishReason.STOP, "6 ")
    assert source.num_delivered == 2
    assert source.unfinished(mint_choices(42, 1)) == ()


def test_a_stop_token_counts_and_has_no_text() -> None:
    source = stream()
    source.accept(emitted(0, 5, 6, finish=FinishReason.STOP, stop=6))
    (delta,) = read(source) or ()
    assert (delta.tokens, delta.text, delta.stop_token) == ((5, 6), "5 ", 6)


def test_a_delta_without_content_is_not_sent() -> None:
    source = stream(stops=("5 6 7",), return_token_ids=False)
    source.accept(emitted(0, 5, 6))
    with pytest.raises(TimeoutError):
        read(source)
    source.accept(emitted(2, 8))
    (delta,) = read(source) or ()
    assert (delta.first_index, delta.text) == (0, "5 6 8 ")


def test_tokens_gather_up_to_the_interval() -> None:
    """The first comes at once: a client that gathers still sees early that it is served."""
    source = stream(stream_interval=3)
    source.accept(emitted(0, 4))
    assert len((read(source) or ())[0].tokens) == 1
    source.accept(emitted(1, 5, 6))
    with pytest.raises(TimeoutError):
        read(source)
    source.accept(emitted(3, 7))
    (delta,) = read(source) or ()
    assert (delta.first_index, delta.tokens, delta.text_offset) == (1, (5, 6, 7), 2)


def test_the_reader_gets_what_is_buffered_before_the_error() -> None:
    source = stream(stream_interval=3)
    source.accept(emitted(0, 5))
    read(source)
    source.accept(emitted(1, 6))
    source.close(Cancelled(message="gone"))
    assert read(source)
    with pytest.raises(Cancelled):
        read(source)


def test_a_stream_that_ended_well_does_not_fail_later() -> None:
    source = stream()
    source.close()
    source.close(Cancelled(message="gone"))
    assert read(source) is None


def test_a_full_buffer_says_so_and_has_room_again_at_half() -> None:
    source = stream(2, max_tokens=4)
    source.accept(emitted(0, 1, 2, 3))
    assert not source.is_full
    source.accept(emitted(0, 4, choice=1))
    assert source.is_full
    read(source)
    assert not source.is_full


def test_a_buffer_is_full_of_bytes_too() -> None:
    source = stream(max_tokens=1 << 20)
    source.accept(emitted(0, *range(MAX_BUFFERED_BYTES // TOKEN_COST_BYTES)))
    assert source.is_full
    read(source)
    assert not source.is_full


@pytest.mark.parametrize("rules", [{"stream_interval": 9}, {"return_token_ids": False}])
def test_a_buffer_is_read_before_it_is_full_whatever_the_reader_waits_for(rules: dict[str, object]) -> None:
    """Work pauses at a full buffer until it is read: a reader that waits for more tokens, or text, waited for ever."""
    source = stream(stops=("0 1 2 3 4 5 6 7 8 9",), max_tokens=4, **rules)
    for index in range(9):
        source.accept(emitted(index, index))
        assert not source.is_full
        if index % 3 == 2:
            assert sum(len(delta.tokens) for delta in read(source) or ()) == 3


def test_a_repeat_is_counted_and_a_difference_too() -> None:
    source = stream()
    source.accept(emitted(0, 5, 6))
    source.accept(emitted(0, 5, 9))
    assert (source.num_duplicates, source.num_conflicts) == (2, 1)
    source.accept(emitted(0, 5))
    assert source.num_duplicates == 3, "tokens that came, not all that are known"


def test_scores_of_the_prompt_that_come_again_are_told_once_and_a_gap_is_a_bug() -> None:
    source = stream()
    first, second, third = (TokenLogprobs(logprob=-float(rank), rank=rank) for rank in (1, 2, 3))
    source.accept_scores(scored(1, first, second))
    source.accept_scores(scored(1, first, second, third))
    assert source.scores_from(1, 9) == (first, second, third)
    with pytest.raises(InternalError):
        source.accept_scores(scored(5, third))


class Taker:
    """A reader that waits, and takes what comes at once while it is free."""

    def __init__(self, source: RequestStream) -> None:
        self.taken: list[Delta] = []
        self.is_free = True
        self._source = source
        self.waiting = asyncio.create_task(source.wait_ready(self._take))

    def _take(self, delta: Delta) -> bool:
        if self.is_free:
            self.taken.append(delta)
        return self.is_free


async def test_what_a_waiting_reader_takes_at_once_is_neither_kept_nor_counted_against_the_buffer() -> None:
    replay = Replay(1, max_bytes=1 << 20)
    source = RequestStream(request(), [spelled_text()], max_tokens=4, replay=replay)
    reader = Taker(source)
    await asyncio.sleep(0)
    for index in range(9):
        source.accept(emitted(index, index))
        assert not source.is_full
    assert [delta.tokens for delta in reader.taken] == [(index,) for index in range(9)]
    assert not reader.waiting.done()
    assert source.fetch() == ()
    assert [delta.tokens for delta in replay.since((3,))] == [(3, 4, 5, 6, 7, 8)]
    reader.waiting.cancel()


async def test_what_a_busy_reader_leaves_is_fetched_with_all_that_follows() -> None:
    source = stream()
    reader = Taker(source)
    await asyncio.sleep(0)
    source.accept(emitted(0, 5))
    reader.is_free = False
    source.accept(emitted(1, 6))
    reader.is_free = True
    source.accept(emitted(2, 7))  # may not overtake the one before
    assert await asyncio.wait_for(reader.waiting, 1.0)
    assert [delta.tokens for delta in (*reader.taken, *source.fetch())] == [(5,), (6, 7)]


async def test_a_token_without_text_is_not_overtaken_by_the_next_one() -> None:
    """It waits for text, unread, while the reader waits too: what comes then goes with it."""
    source = stream(stops=("5 9",), return_token_ids=False)
    reader = Taker(source)
    await asyncio.sleep(0)
    source.accept(emitted(0, 5))
    source.accept(emitted(1, 6))
    assert await asyncio.wait_for(reader.waiting, 1.0)
    assert reader.taken == []
    assert [(delta.tokens, delta.text) for delta in source.fetch()] == [((5, 6), "5 6 ")]


async def test_tokens_that_gather_wait_for_the_reader_as_a_whole() -> None:
    """The first goes out at once, by itself; later ones come together, and the reader is woken for them."""
    source = stream(stream_interval=3)
    reader = Taker(source)
    await asyncio.sleep(0)
    for index in range(3):
        source.accept(emitted(index, index))
    await asyncio.sleep(0)
    assert [delta.tokens for delta in reader.taken] == [(0,)]
    assert not reader.waiting.done()
    source.accept(emitted(3, 3))
    assert await asyncio.wait_for(reader.waiting, 1.0)
    assert [delta.tokens for delta in source.fetch()] == [(1, 2, 3)]


def test_seeds_of_choices_differ_and_the_first_keeps_the_requests_own() -> None:
    seeds = [choice.seed for choice in mint_choices(-1, 8)]
    assert seeds[0] == (1 << 64) - 1
    assert len(set(seeds)) == 8
    assert mint_choices(-1, 4) == mint_choices(-1, 8)[:4]
    assert replace(mint_choices(7, 1)[0], seed=7) == mint_choices(7, 1)[0]
