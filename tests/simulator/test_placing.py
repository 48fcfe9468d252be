"""What the simulated router knows of its own doing when it decides: as much as the live one."""

from dataclasses import replace

import pytest

from services.router.classify import Facts
from services.router.policy import Route
from services.router.view import FleetView
from services.simulator.cluster import ClusterShape
from services.simulator.routing import RoutingReplay
from services.simulator.trace import Trace, TraceRequest
from tests.simulator.plays import play
from tests.simulator.workload import PAGE

SHAPE = ClusterShape(dual=2, cache_tokens=10_000 * PAGE)
NUM_PAGES = 400
TOLD_S = 100.0


class Watcher:
    """Sends the first prompt to one machine, later ones to the other, which fetches what the first has. Keeps what it
    was asked with."""

    def __init__(self) -> None:
        self.asked: list[tuple[Facts, FleetView]] = []

    def __call__(self, facts: Facts, view: FleetView) -> Route:
        self.asked.append((facts, view))
        holder, reader = (worker.worker for worker in view.workers)
        is_held = facts.hits and holder.worker not in facts.awaited
        return Route(decode=reader, source=holder) if is_held else Route(decode=holder)


def siblings(*arrived_s: float) -> Trace:
    """Prompts that begin alike, and end in ten tokens of their own."""
    pages = tuple(range(NUM_PAGES))
    requests = tuple(
        TraceRequest(arrived_s=at, prompt_tokens=NUM_PAGES * PAGE + 10, output_tokens=5, pages=pages)
        for at in arrived_s
    )
    return Trace(name="siblings", page_size=PAGE, requests=requests)


@pytest.mark.parametrize("is_routing_only", [False, True])
def test_a_reader_that_fetches_is_not_thought_to_read_what_comes(is_routing_only: bool) -> None:
    """The third prompt comes while the second one's pages are under way."""
    watcher, trace = Watcher(), siblings(0.0, TOLD_S, TOLD_S + 1e-4)
    shape = replace(SHAPE, hop_s=0.01)
    if is_routing_only:
        RoutingReplay("test", watcher, trace, shape).run()
    else:
        play(trace, shape, watcher)
    reader = watcher.asked[-1][1].workers[1]
    assert reader.pending_prompts == 1
    assert reader.pending_tokens == 10
    assert reader.recent_tokens == 10


@pytest.mark.parametrize("is_routing_only", [False, True])
def test_what_a_machine_is_only_thought_to_hold_is_awaited(is_routing_only: bool) -> None:
    """The second prompt comes while the first is read, the third when it is read."""
    watcher, trace = Watcher(), siblings(0.0, 1e-3, TOLD_S)
    if is_routing_only:
        RoutingReplay("test", watcher, trace, SHAPE).run()
    else:
        play(trace, SHAPE, watcher)
    awaited = [facts.awaited for facts, _view in watcher.asked]
    holder = watcher.asked[0][1].workers[0].worker.worker
    assert awaited == [frozenset(), frozenset({holder}), frozenset()]


@pytest.mark.parametrize("is_routing_only", [False, True])
def test_who_is_to_receive_a_prompt_is_not_thought_to_hold_it(is_routing_only: bool) -> None:
    """The second prompt comes while the first is read for another machine, the third when its pages have landed."""
    asked: list[Facts] = []

    def hand_over(facts: Facts, view: FleetView) -> Route:
        asked.append(facts)
        reader, writer = (worker.worker for worker in view.workers)
        return Route(decode=writer, prefill=reader)

    trace = siblings(0.0, 1e-3, TOLD_S)
    if is_routing_only:
        RoutingReplay("test", hand_over, trace, SHAPE).run()
    else:
        play(trace, SHAPE, hand_over)
    assert [len(facts.hits) for facts in asked] == [0, 1, 2]


@pytest.mark.parametrize("is_routing_only", [False, True])
def test_a_prompt_counts_with_its_reader_before_its_writer_has_promised(is_routing_only: bool) -> None:
    """The second prompt comes while the writer is asked for the first."""
    asked: list[FleetView] = []

    def hand_over(_facts: Facts, view: FleetView) -> Route:
        asked.append(view)
        reader, writer = (worker.worker for worker in view.workers)
        return Route(decode=writer, prefill=reader)

    trace, shape = siblings(0.0, 1e-4), replace(SHAPE, hop_s=0.01)
    if is_routing_only:
        RoutingReplay("test", hand_over, trace, shape).run()
    else:
        play(trace, shape, hand_over)
    reader = asked[-1].workers[0]
    assert (reader.pending_prompts, reader.pending_tokens) == (1, NUM_PAGES * PAGE + 10)
    assert reader.in_flight == 1


def test_siblings_that_come_at_once_are_read_once() -> None:
    outcome = play(siblings(0.0, 0.0, 0.0), SHAPE, Watcher())
    assert outcome.machines[0].uncached_tokens == NUM_PAGES * PAGE + 30


def test_what_a_machine_refused_is_not_thought_to_be_read_there_lately() -> None:
    """The second prompt is sent to a machine whose only place is taken, and is tried again."""
    asked: list[FleetView] = []

    def always_first(_facts: Facts, view: FleetView) -> Route:
        asked.append(view)
        return Route(decode=view.workers[0].worker)

    requests = tuple(
        TraceRequest(arrived_s=0.0, prompt_tokens=tokens, output_tokens=5, pages=()) for tokens in (6400, 6500)
    )
    trace = Trace(name="strangers", page_size=PAGE, requests=requests)
    shape = replace(SHAPE, max_sequences=1)
    outcome = play(trace, shape, always_first)
    assert outcome.num_bounced
    assert asked[2].workers[0].recent_tokens <= requests[0].prompt_tokens


def test_a_sibling_of_one_that_fetches_waits_for_the_same_pages() -> None:
    """The third prompt is sent to the reader while the second one's pages are under way, and reads its own rest."""

    def follow(facts: Facts, view: FleetView) -> Route:
        holder, reader = (worker.worker for worker in view.workers)
        if not facts.hits:
            return Route(decode=holder)
        return Route(decode=reader, source=None if reader.worker in facts.awaited else holder)

    trace = siblings(0.0, TOLD_S, TOLD_S + 0.045)
    shape = replace(SHAPE, hop_s=0.01)
    outcome = play(trace, shape, follow)
    assert [served.cached_tokens for served in outcome.served] == [0, NUM_PAGES * PAGE, NUM_PAGES * PAGE]
    fetched, sibling = outcome.served[1:]
    assert fetched.read_from is not None
    assert sibling.read_from is not None
    assert sibling.queued is not None
    assert sibling.queued < fetched.read_from <= sibling.read_from


def test_a_reader_tells_of_what_it_will_have_to_read() -> None:
    """Nothing of what it fetches, and of the first prompt less and less."""
    watcher, trace = Watcher(), siblings(0.0, 0.2, TOLD_S, TOLD_S + 0.045)
    play(trace, replace(SHAPE, hop_s=0.01), watcher)
    (holder, _), (_, reader) = (tuple(worker.load for worker in watcher.asked[at][1].workers) for at in (1, 3))
    assert 0 < holder.waiting_tokens < NUM_PAGES * PAGE
    assert reader.waiting_tokens == 10
