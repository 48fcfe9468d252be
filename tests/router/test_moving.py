"""Whether an answer leaves a worker that drains, with how many others, and where it goes; whether a prompt stays."""

import random
from contextlib import ExitStack
from dataclasses import replace

import pytest

from common.core.clock import ManualClock
from common.core.events import PrefillDone, StationReached
from common.core.ids import Epoch, RequestId, WorkerId, WorkerRef
from common.core.worker import Role
from common.observe.lifetime import Station
from services.router.baton import STAY_SHARE, is_over_in_time
from services.router.inbox import Draining, Switchboard
from services.router.moves import AT_ONCE, Moves, Slot, at_once
from services.router.policy import PolicySettings, can_take, choose_writer
from services.router.progress import READ_SHARE, Progress
from tests.router.questions import question

SETTINGS = PolicySettings()
WORKER = WorkerRef(WorkerId("decode-0"), Epoch(1), "127.0.0.1:1")


def leaving(left_s: float, *, grace_s: float = 20.0, num_sequences: int = 1) -> Draining:
    return Draining(left_s=left_s, grace_s=grace_s, step_s=0.02, num_sequences=num_sequences)


def test_what_is_over_within_a_share_of_the_time_stays_and_one_token_more_moves() -> None:
    draining = leaving(20.0)
    most = round(STAY_SHARE * 20.0 / 0.02)
    assert is_over_in_time(draining, most)
    assert not is_over_in_time(draining, most + 1)


def test_as_long_as_steps_take_as_long_as_they_did_whoever_stays_ends_before_the_rest_is_over() -> None:
    left_s, num_tokens = 20.0, 250
    while num_tokens:
        assert is_over_in_time(leaving(left_s), num_tokens)
        left_s, num_tokens = left_s - 0.02, num_tokens - 1


@pytest.mark.parametrize("seed", range(50))
def test_the_other_writer_has_room_and_has_not_failed_the_request(seed: int) -> None:
    """Nobody is chosen only where nobody can take it."""
    facts, view = question(random.Random(seed))
    able = [
        each
        for each in view.workers
        if each.role is Role.DECODE and each.is_eligible and can_take(each, facts) and each.worker not in facts.avoid
    ]
    chosen = choose_writer(facts, view, SETTINGS)
    if chosen is not None:
        assert chosen in {each.worker for each in able}
        again = replace(facts, avoid=facts.avoid | {chosen})
        assert choose_writer(again, view, SETTINGS) != chosen
    assert choose_writer(facts, view, SETTINGS) == chosen, "the same inputs, the same answer"


def test_a_few_choices_leave_at_once_and_the_longest_answers_first() -> None:
    """The next one is called when one has arrived, and not when one has failed: it would fail again without a pause."""
    called: list[WorkerRef] = []
    moves, draining = Moves(ManualClock(), called.append), leaving(20.0, num_sequences=16)
    slots: list[Slot] = []
    while moves.may_begin(WORKER, draining):
        slots += moves.begin(WORKER, 1)
    assert len(slots) == AT_ONCE
    slots[0].abandoned()
    assert moves.may_begin(WORKER, draining)
    assert not called
    slots[1].arrived()
    slots[1].abandoned()
    assert called == [WORKER]
    assert moves.under_way[WORKER] == AT_ONCE - 2
    for slot in slots[2:]:
        slot.arrived()
    assert not moves.under_way


@pytest.mark.parametrize(("num_sequences", "move_s"), [(16, 0.1), (16, 2.0), (256, 0.25), (256, 5.0)])
def test_all_have_left_when_half_of_the_grace_is_over_if_moves_take_what_they_took(
    num_sequences: int, move_s: float
) -> None:
    most = at_once(leaving(20.0, num_sequences=num_sequences), move_s)
    assert most is not None
    assert -(-num_sequences // most) * move_s <= 10.0 + move_s


def test_nobody_is_held_back_in_the_second_half() -> None:
    assert at_once(leaving(10.0, num_sequences=256), 0.25) is None
    assert at_once(leaving(0.0, grace_s=0.0), 0.25) is None


def test_legs_are_warned_in_the_order_of_what_they_may_still_write() -> None:
    switchboard, told = Switchboard(), []
    with ExitStack() as stack:
        for name, num_left in (("short", 3), ("long", 900), ("middle", 40)):
            inbox = stack.enter_context(switchboard.open(RequestId(name)))
            inbox.watched.add(WORKER)
            inbox.num_left = lambda num_left=num_left: num_left
            inbox.queue = lambda _arrival, name=name: told.append(name)
        switchboard.warn(WORKER, leaving(20.0))
    assert told == ["long", "middle", "short"]


def station(name: Station, at: float, attempt: int = 1, **facts: float) -> StationReached:
    return StationReached(request=RequestId("r"), attempt=attempt, name=name, at=at, facts=facts)


def test_a_prompt_that_waits_is_passed_on_and_one_that_is_being_read_stays_if_it_will_be_read_in_time() -> None:
    progress = Progress(num_tokens=1000)
    assert not progress.stays(1, leaving(20.0), 2.0), "nothing was heard of it"
    progress.note(station(Station.PREFILL_QUEUED, 0.0, tokens=1000))
    assert not progress.stays(1, leaving(20.0), 2.0), "it waits"
    progress.note(station(Station.PREFILL_STARTED, 1.0, cached_tokens=200))
    assert progress.stays(1, leaving(0.1), 1.03), "nobody knows how long it takes"
    assert not progress.stays(1, leaving(20.0), 1.1), "others are read before it"
    progress.note(station(Station.CHUNK_COMPUTED, 2.0, tokens=300))  # seven seconds more
    assert progress.stays(1, leaving(7.0 / READ_SHARE), 2.0)
    assert not progress.stays(1, leaving(7.0 / READ_SHARE - 0.1), 2.0)
    read = PrefillDone(request=RequestId("r"), attempt=1, prompt_tokens=1000, cached_tokens=200, computed_tokens=800)
    progress.note(read)
    assert progress.stays(1, leaving(0.1), 2.0), "only its pages are on their way"
    assert not progress.stays(2, leaving(20.0), 2.0), "another worker was given it, and has said nothing yet"
