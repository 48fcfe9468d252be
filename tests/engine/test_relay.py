"""Prefill core to decode core by hand: promises, landing, adoption, cancellation, failure, pages."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.core.errors import Cancelled, Reason, Refused
from common.core.events import PrefillDone, WorkFailed
from common.core.ids import RequestId, TokenId
from common.core.request import Priority
from common.core.step import Draw
from common.transfer.messages import PageRun
from common.worker.permit import PagesLanded
from services.decode.reservations import Opening
from tests.engine.relay import Relay, make_decode
from tests.engine.rig import LAYOUT, PAGE_SIZE, ROUTER, generate, work

LENGTHS = (1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 3 * PAGE_SIZE, 40)


def opening(token: int) -> Opening:
    return Opening(first_tokens={0: Draw(token=TokenId(token))})


def prompt(length: int, start: int = 3) -> list[int]:
    return [(start + 13 * index) % 500 for index in range(length)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("n", [1, 3])
def test_a_relayed_answer_equals_the_undisturbed_one(length: int, n: int) -> None:
    relay, given = Relay(), work("r", prompt(length), n=n, temperature=0.7, max_tokens=9)
    relay.send(given)
    relay.run()
    expected = generate(given)
    assert {choice: relay.output("r", choice) for choice in expected} == expected
    assert relay.decode.core.counters.local_prompt_tokens == 0
    relay.check_idle()


def test_the_next_turn_of_a_conversation_sends_only_what_decode_does_not_hold() -> None:
    relay = Relay()
    relay.send(work("one", prompt(40), max_tokens=9))
    relay.run()
    assert relay.landed_pages == 10
    answer = relay.output("one")
    longer = prompt(40) + [int(token) for token in answer] + prompt(7, start=9)
    promise = relay.send(work("two", longer, max_tokens=5))
    relay.run()
    assert promise.held_pages == (40 + len(answer) - 1) // PAGE_SIZE
    assert relay.landed_pages == 10 + promise.promised_pages
    assert relay.output("two") == generate(work("two", longer, max_tokens=5))[0]
    done = [event for event in relay.heard if isinstance(event, PrefillDone) and event.request == "two"]
    assert [event.cached_tokens for event in done] == [40]
    relay.check_idle()


def test_a_local_prompt_is_counted_as_such_and_gives_the_same_answer() -> None:
    relay, given = Relay(), work("r", prompt(30), n=2, temperature=0.5)
    relay.decode.core.start_local(given)
    relay.run()
    expected = generate(given)
    assert {choice: relay.output("r", choice) for choice in expected} == expected
    assert relay.decode.core.counters.local_prompt_tokens == 30
    relay.check_idle()


def test_a_finale_that_lacks_a_choice_fails_its_promise_and_not_the_worker() -> None:
    relay, given = Relay(), work("r", prompt(6), n=2, max_tokens=4)
    promise = relay.decode.core.reserve(given)
    run = PageRun(first_page=0, num_pages=promise.promised_pages)
    assert relay.decode.land(promise.permit, run, memoryview(bytes(run.num_pages * LAYOUT.page_bytes)))
    relay.decode.core.complete(promise.reservation, 1, opening(5))
    relay.run()
    (failed,) = [event for event in relay.heard if isinstance(event, WorkFailed)]
    assert (failed.reason, failed.reservation_stands) == (Reason.TRANSFER_FAILED, False)
    relay.check_idle()


def test_many_cancels_at_once_end_what_they_name_and_nothing_else() -> None:
    relay = Relay()
    names = [RequestId(f"r{index}") for index in range(4)]
    for name in names:
        relay.decode.core.start_local(work(name, prompt(6), max_tokens=4))
    relay.decode.core.cancel_all({names[0]: 1, names[1]: 1, names[2]: 0, RequestId("late"): 1})
    assert relay.decode.core.counters.aborted == 2
    with pytest.raises(Cancelled):
        relay.decode.core.start_local(work("late", prompt(6)))
    relay.run()
    assert [len(relay.output(name)) for name in names] == [0, 0, 4, 4]
    relay.check_idle()


def test_a_renewed_promise_refuses_the_older_attempt_and_starts_over() -> None:
    relay, first = Relay(), work("r", prompt(40), max_tokens=6)
    promise = relay.send(first)
    relay.prefill.core.advance()
    relay.carry()  # the first run has landed or is landing
    relay.prefill.core.cancel(RequestId("r"), 1)
    renewed = relay.decode.core.renew(promise.reservation, 2)
    assert renewed == replace(promise, permit=renewed.permit)
    one = PageRun(first_page=0, num_pages=1)
    assert not relay.decode.land(promise.permit, one, memoryview(bytes(64)))
    late = PagesLanded(reservation=promise.reservation, attempt=1, pages=one, whole_run=one)
    relay.decode.core.landed(late)
    relay.forward(work("r", prompt(40), max_tokens=6, attempt=2), renewed)
    relay.run()
    assert relay.output("r") == generate(first)[0]
    assert relay.decode.core.counters.stale_frames == 1
    relay.check_idle()


@pytest.mark.parametrize("turns", range(8))
def test_a_cancel_at_any_turn_gives_every_page_back(turns: int) -> None:
    relay = Relay()
    relay.send(work("victim", prompt(40), n=2, max_tokens=30))
    relay.send(work("neighbour", prompt(17, start=5), max_tokens=12))
    for _ in range(turns):
        relay.prefill.core.advance()
        relay.carry()
        relay.decode.core.advance()
        relay.listen()
    for core in (relay.prefill.core, relay.decode.core):
        core.cancel(RequestId("victim"), 1)
        core.cancel(RequestId("victim"), 1)
    relay.listen()
    relay.run()
    assert relay.output("neighbour") == generate(work("neighbour", prompt(17, start=5), max_tokens=12))[0]
    relay.check_idle()


def test_work_cancelled_before_it_arrives_stays_cancelled() -> None:
    relay = Relay()
    relay.decode.core.cancel(RequestId("r"), 1)
    with pytest.raises(Cancelled):
        relay.decode.core.reserve(work("r", prompt(5)))
    relay.decode.core.reserve(work("r", prompt(5), attempt=2))


def test_a_promise_that_cannot_be_kept_is_refused_with_numbers() -> None:
    decode = make_decode(Relay().clock, num_pages=8, overcommit=1.0)
    decode.core.reserve(work("a", prompt(12), max_tokens=8))
    with pytest.raises(Refused, match="worst case") as refused:
        decode.core.reserve(work("b", prompt(12), max_tokens=8))
    assert refused.value.reason is Reason.NO_PAGES
    assert decode.core.counters.promises_refused == 1


def test_an_expired_promise_frees_its_pages_and_tells_the_router() -> None:
    relay = Relay()
    relay.decode.core.reserve(work("r", prompt(20), deadline=1.0))
    relay.clock.advance(2.0)
    relay.run()
    failed = [event for event in relay.heard if isinstance(event, WorkFailed)]
    assert [(event.reason, event.reservation_stands) for event in failed] == [(Reason.DEADLINE_EXCEEDED, False)]
    relay.check_idle()


def test_a_forgotten_promise_ends_with_its_lease() -> None:
    relay = Relay()
    promise = relay.decode.core.reserve(work("r", prompt(20)))
    relay.clock.advance(31.0)
    relay.run()
    relay.decode.core.complete(promise.reservation, 1, opening(1))
    assert relay.decode.core.counters.promises_expired == relay.decode.core.counters.stale_frames == 1
    relay.check_idle()


def test_a_lost_router_takes_its_work_along() -> None:
    relay = Relay()
    relay.send(work("r", prompt(20), max_tokens=50))
    for _ in range(4):
        relay.prefill.core.advance()
        relay.carry()
        relay.decode.core.advance()
    for core in (relay.prefill.core, relay.decode.core):
        core.cancel_router(ROUTER)
    relay.listen()
    relay.run()
    relay.check_idle()


def test_reserve_and_submit_are_idempotent() -> None:
    relay, given = Relay(), work("r", prompt(20), max_tokens=4)
    assert relay.send(given) == relay.send(given)
    relay.run()
    assert relay.output("r") == generate(given)[0]
    relay.check_idle()


def test_pages_run_out_and_everybody_finishes_all_the_same() -> None:
    """Four times what fits: preemption is forced, nobody is lost, every answer is exact."""
    relay = Relay()
    relay.decode = make_decode(relay.clock, num_pages=24, overcommit=4.0)
    plain = [work(f"r{number}", prompt(9, start=number), max_tokens=40) for number in range(7)]
    given = [replace(each, priority=Priority.INTERACTIVE) for each in plain]  # no class above it to leave room for
    for each in given:
        relay.send(each)
    relay.run(max_turns=5000)
    for each in given:
        assert relay.output(each.request) == generate(each)[0], each.request
    assert relay.decode.core.counters.preemptions > 0
    assert relay.decode.core.counters.recomputed_tokens > 0
    assert relay.decode.rig.cache.counters().evictions > 0
    relay.check_idle()


@pytest.mark.parametrize("priority", Priority)
def test_a_request_as_large_as_the_worker_is_served_when_nobody_else_is_there(priority: Priority) -> None:
    """What a class leaves to those above it is not withheld from the only request."""
    relay = Relay()
    relay.decode = make_decode(relay.clock, num_pages=24, overcommit=1.0, max_sequences=1)
    whole = work("whole", prompt(9), max_tokens=24 * PAGE_SIZE - 9)
    relay.send(replace(whole, priority=priority))
    relay.run(max_turns=5000)
    assert relay.output("whole") == generate(whole)[0]
    relay.check_idle()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_mix_of_work_and_cancels_keeps_answers_exact_and_pages_whole(data: st.DataObject) -> None:
    relay = Relay()
    relay.decode = make_decode(relay.clock, num_pages=40)
    alive, number = {}, 0
    for _ in range(data.draw(st.integers(1, 40))):
        match data.draw(st.sampled_from(("send", "local", "cancel", "turn", "turn", "turn"))):
            case "send" | "local" as how:
                number += 1
                length, n = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 3))
                each = work(f"r{number}", prompt(length, start=length % 5), n=n, temperature=0.6, max_tokens=6)
                try:
                    relay.send(each) if how == "send" else relay.decode.core.start_local(each)
                except Refused:
                    relay.decode.core.cancel(each.request, 1)  # as the router does with a promise it cannot use
                    continue
                alive[each.request] = each
            case "cancel" if alive:
                victim = data.draw(st.sampled_from(sorted(alive)))
                del alive[victim]
                relay.prefill.core.cancel(victim, 1)
                relay.decode.core.cancel(victim, 1)
            case _:
                relay.clock.advance(0.001)
                relay.prefill.core.advance()
                relay.carry()
                relay.decode.core.advance()
                relay.listen()
    relay.run(max_turns=5000)
    for each in alive.values():
        for choice, tokens in generate(each).items():
            assert relay.output(each.request, choice) == tokens
    relay.check_idle()


def test_a_choice_that_ended_by_its_text_stops_alone() -> None:
    relay, given = Relay(), work("r", prompt(10), n=3, temperature=0.7, max_tokens=12)
    relay.send(given)
    while len(relay.output("r", 2)) < 4:
        relay.prefill.core.advance()
        relay.carry()
        relay.decode.core.advance()
        relay.listen()
    relay.decode.core.end_choices(RequestId("r"), 1, (1,))
    relay.run()
    expected = generate(given)
    assert {choice: relay.output("r", choice) for choice in (0, 2)} == {choice: expected[choice] for choice in (0, 2)}
    assert 4 <= len(relay.output("r", 1)) < 12
    relay.check_idle()
