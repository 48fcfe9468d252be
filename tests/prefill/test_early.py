"""Layers that leave amid a step: sooner, never other bytes, and only where they were asked for."""

import pytest

from common.core.ids import RequestId, TokenId
from services.prefill.messages import PrefillEvent, RunReady
from tests.engine.relay import Relay
from tests.engine.rig import PAGE_SIZE, generate, work


def layered(device: str | None = None) -> Relay:
    return Relay(layer_groups=2, device=device)


def prompt(length: int, start: int = 3) -> list[int]:
    return [(start + index * 7) % 500 for index in range(length)]


@pytest.mark.parametrize("length", [1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 5 * PAGE_SIZE, 43])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("device", [None, "early", "late"])
def test_an_answer_that_came_layer_by_layer_equals_the_undisturbed_one(length: int, n: int, device: str | None) -> None:
    """Also where the next step is launched, and its layers are told of, before the last one is collected."""
    relay = layered(device)
    given = work("a", prompt=prompt(length), n=n, temperature=1.0, max_tokens=9)
    relay.send(given)
    relay.run()
    assert {index: relay.output("a", index) for index in range(n)} == generate(given)
    full_pages = length // PAGE_SIZE
    assert relay.layered_pages == 2 * full_pages, "each full page in two parts"
    relay.check_idle()


def test_parts_leave_before_the_step_is_over_the_first_layers_of_all_pages_first() -> None:
    relay = Relay(layer_groups=2, num_staging=8)
    side = relay.prefill
    heard: list[tuple[PrefillEvent, ...]] = []
    side.core.early.hasten = lambda: heard.append(side.core.take_events())
    relay.send(work("a", prompt=prompt(2 * PAGE_SIZE)))
    relay.clock.advance(0.001)
    side.core.advance()
    early = [event for events in heard for event in events if isinstance(event, RunReady)]
    assert [(run.run.num_pages, run.run.layers and run.run.layers.first) for run in early] == [(2, 0), (2, 1)]
    assert all(run.finale is None for run in early), "nothing was drawn yet"
    rest = [event for event in side.core.take_events() if isinstance(event, RunReady)]
    assert [(run.run.num_pages, run.finale is None) for run in rest] == [(0, False)]
    assert side.core.counters.early_runs == 2


def test_what_finds_no_staging_amid_the_step_goes_after_it() -> None:
    relay = layered()
    staging = relay.prefill.staging
    held = [staging.acquire_nowait() for _ in range(staging.count - 1)]
    given = work("a", prompt=prompt(43), max_tokens=5)
    relay.send(given)
    relay.run()
    assert relay.prefill.core.counters.staging_waits > 0
    assert relay.output("a") == generate(given)[0]
    assert staging.num_free == 1
    assert len(held) == 1
    relay.check_idle()


def test_a_destination_that_was_never_asked_gets_whole_pages() -> None:
    relay = Relay(layer_groups=2, takes_layers=False)
    given = work("a", prompt=prompt(43), max_tokens=5)
    relay.send(given)
    relay.run()
    assert relay.output("a") == generate(given)[0]
    assert relay.layered_pages == relay.prefill.core.counters.early_runs == 0


def test_pages_that_decode_holds_are_not_sent_in_part() -> None:
    relay = layered()
    first = work("a", prompt=prompt(5 * PAGE_SIZE + 2), max_tokens=5)
    relay.send(first)
    relay.run()
    before = relay.layered_pages
    longer = work("b", prompt=[*first.prompt, *prompt(2 * PAGE_SIZE, start=99)], max_tokens=5)
    promise = relay.send(longer)
    relay.run()
    assert promise.held_pages > 0
    assert relay.output("b") == generate(longer)[0]
    assert relay.layered_pages - before == 2 * (len(longer.prompt) // PAGE_SIZE - promise.held_pages)


@pytest.mark.parametrize("device", [None, "early", "late"])
def test_a_row_that_fails_takes_back_what_left_of_it_and_nothing_else(device: str | None) -> None:
    relay = Relay(layer_groups=2, poison=(TokenId(13),), device=device)
    fine = work("fine", prompt=prompt(11), max_tokens=5)
    relay.send(fine)
    relay.send(work("bad", prompt=[*range(20, 20 + 2 * PAGE_SIZE), 13]))
    relay.run()
    assert relay.dropped == [RequestId("bad")]
    assert relay.output("fine") == generate(fine)[0]


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("device", [None, "early"])
def test_a_cancel_amid_the_parts_of_a_prompt_gives_everything_back(turns: int, device: str | None) -> None:
    relay = layered(device)
    relay.send(work("victim", prompt=prompt(43), max_tokens=30))
    relay.send(work("neighbour", prompt=prompt(17, start=5), max_tokens=12))
    for _ in range(turns):
        relay.prefill.core.advance()
        relay.carry()
        relay.decode.core.advance()
        relay.listen()
    for core in (relay.prefill.core, relay.decode.core):
        core.cancel(RequestId("victim"), 1)
    relay.run()
    assert relay.output("neighbour") == generate(work("neighbour", prompt=prompt(17, start=5), max_tokens=12))[0]
    assert relay.prefill.staging.num_free == relay.prefill.staging.count
    relay.check_idle()
