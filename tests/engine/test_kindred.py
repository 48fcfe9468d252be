"""Prompts that begin alike: what the first one computes, the second one finds, and nothing is computed twice.

Method: one rule by hand over a batch, then whole cores to which siblings come at once.
"""

from dataclasses import replace

import pytest

from common.core.clock import ManualClock
from common.core.events import TokensEmitted
from common.core.ids import ReservationId, SequenceId
from common.core.request import Priority, Work
from common.engine.kindred import is_kin_read, is_mostly_coming, shared_pages
from common.engine.plan import BatchPlan, Extend
from common.engine.telling import Outgoing
from services.prefill.messages import Destination, RunReady
from tests.engine.relay import DECODE, DecodeSide, make_decode, make_prefill
from tests.engine.rig import DEVICES, PAGE_SIZE, Rig, make_rig, work

SHARED = list(range(6 * PAGE_SIZE))


def added(rig: Rig, given: Work) -> SequenceId:
    return rig.batch.add(given, arrived=0.0)


def begun(rig: Rig, given: Work, num_tokens: int) -> SequenceId:
    """Added, and so many tokens of it computed."""
    sequence = added(rig, given)
    rig.batch.begin(sequence)
    rig.batch.run(BatchPlan(extend=(Extend(sequence=sequence, num_tokens=num_tokens),)))
    return sequence


@pytest.mark.parametrize(
    ("num_computed", "waits"),
    [(1, True), (5 * PAGE_SIZE, True), (6 * PAGE_SIZE - 1, True), (6 * PAGE_SIZE, False), (6 * PAGE_SIZE + 5, False)],
)
def test_a_prompt_waits_while_a_page_that_it_needs_is_computed(num_computed: int, waits: bool) -> None:
    rig = make_rig()
    first = begun(rig, work("first", [*SHARED, 100, *range(30)]), num_computed)
    second = added(rig, work("second", [*SHARED, 200, 201]))
    assert is_kin_read(rig.batch[second], [rig.batch[first]], PAGE_SIZE) is waits


def test_nobody_waits_for_another_prompt_or_a_page_that_it_computes_anyway() -> None:
    """The last token is always computed: of an equal prompt that ends with its page, that page is not looked for."""
    rig = make_rig()
    first = rig.batch[begun(rig, work("first", SHARED), 5 * PAGE_SIZE)]
    other = rig.batch[added(rig, work("other", [7, *SHARED[1:], 300]))]
    equal = rig.batch[added(rig, work("equal", SHARED))]
    longer = rig.batch[added(rig, work("longer", [*SHARED, 300]))]
    assert [is_kin_read(each, [first], PAGE_SIZE) for each in (other, equal, longer)] == [False, False, True]


@pytest.mark.parametrize(
    ("num_found", "num_coming", "waits"),
    [(0, 10, True), (0, 5, True), (0, 4, False), (6, 8, True), (6, 7, False), (6, 6, False), (10, 10, False)],
)
def test_pages_on_their_way_are_waited_for_where_most_is_missing(num_found: int, num_coming: int, waits: bool) -> None:
    """Of ten pages: what is here already, and less than half of the rest, keeps nobody."""
    names = list(range(10))
    assert is_mostly_coming(names, num_found, [names[:num_coming], [7, 8]]) is waits


@pytest.mark.parametrize("num_alike", range(6))
def test_pages_are_alike_up_to_the_first_that_differs(num_alike: int) -> None:
    """A page has the name of everything up to it."""
    names = ["abcde"[: end + 1] for end in range(5)]
    other = [*names[:num_alike], *(f"x{end}" for end in range(num_alike, 7))]
    assert shared_pages(names, [["y"], other, []]) == num_alike
    assert shared_pages(names, [names[:num_alike]]) == num_alike


def test_nobody_waits_for_a_lower_class() -> None:
    rig = make_rig()
    first = rig.batch[begun(rig, replace(work("first", [*SHARED, 1]), priority=Priority.BATCH), PAGE_SIZE)]
    for priority, waits in ((Priority.INTERACTIVE, False), (Priority.BATCH, True)):
        second = rig.batch[added(rig, replace(work(priority, [*SHARED, 2]), priority=priority))]
        assert is_kin_read(second, [first], PAGE_SIZE) is waits


def test_a_prompt_whose_log_probabilities_are_wanted_is_read_whole() -> None:
    rig = make_rig()
    first = rig.batch[begun(rig, work("first", [*SHARED, 1]), PAGE_SIZE)]
    second = rig.batch[added(rig, work("second", [*SHARED, 2], prompt_logprobs=1))]
    assert not is_kin_read(second, [first], PAGE_SIZE)


def answers(side: DecodeSide, clock: ManualClock) -> dict[str, list[int]]:
    """What the core draws until it has nothing to do."""
    drawn: dict[str, list[int]] = {}
    while side.core.advance():
        clock.advance(0.001)
        for event in side.core.take_events():
            if isinstance(event, Outgoing) and isinstance(event.event, TokensEmitted):
                drawn.setdefault(event.event.request, []).extend(event.event.tokens)
    return drawn


@pytest.mark.parametrize("device", [None, *DEVICES])
def test_siblings_that_come_to_a_decode_worker_at_once_are_read_once(device: str | None) -> None:
    prompts = {f"r{index}": [*SHARED, 100 + index, 200 + index] for index in range(4)}
    alone = {}
    for name, prompt in prompts.items():
        clock = ManualClock()
        side = make_decode(clock, device=device)
        side.core.start_local(work(name, prompt, max_tokens=3))
        alone.update(answers(side, clock))
    clock = ManualClock()
    together = make_decode(clock, device=device)
    for name, prompt in prompts.items():
        together.core.start_local(work(name, prompt, max_tokens=3))
    assert answers(together, clock) == alone
    assert together.core.look().counters["local_prompt_tokens"] == len(SHARED) + 2 * len(prompts)


@pytest.mark.parametrize("device", [None, *DEVICES])
def test_siblings_that_come_to_a_prefill_worker_at_once_are_read_once(device: str | None) -> None:
    """A step has room for chunks of two prompts: without the rule both would compute the same ones."""
    clock = ManualClock()
    side = make_prefill(clock, num_staging=64, device=device)
    for index in range(3):
        target = Destination(worker=DECODE, reservation=ReservationId(f"res-{index}"), held_pages=0)
        side.core.submit(work(f"r{index}", [*SHARED, 100 + index]), target)
    while side.core.advance():
        clock.advance(0.001)
        for event in side.core.take_events():
            if isinstance(event, RunReady) and event.staging is not None:
                event.staging.release()
    counters = side.core.look().counters
    assert counters["first_tokens"] == 3
    assert counters["computed_tokens"] == len(SHARED) + 3


def test_who_waits_for_a_sibling_that_is_cancelled_reads_itself() -> None:
    clock = ManualClock()
    side = make_decode(clock)
    for name in ("first", "second"):
        side.core.start_local(work(name, [*range(80), len(name)], max_tokens=3))
    side.core.advance()
    side.core.cancel(work("first", SHARED).request, 1)
    assert answers(side, clock).keys() == {"second"}
