"""Pages that travel in groups of layers through a simulated cluster: who gets them, and who never does."""

from dataclasses import replace

import pytest

from common.transfer.endpoint import KvEndpoint
from common.transfer.messages import Meet, Met, Pair
from tests.sim.client import Manners
from tests.sim.oracle import Ask
from tests.sim.play import play
from tests.sim.storm import storm
from tests.sim.trace import Trace
from tests.sim.world import CONFIG, World

LAYERED = replace(CONFIG, transfer=replace(CONFIG.transfer, layer_groups=2, staging_count=8))
NUM_ASKS = 4


def relayed(config: object = LAYERED) -> Trace:
    """Prompts of several chunks, one after the other, from one prefill worker to one decode worker."""

    async def story(world: World) -> None:
        for number in range(NUM_ASKS):
            prompt = tuple(range(number * 40, number * 40 + 38))
            world.ask(Ask(name=f"ask-{number}", prompt=prompt, max_tokens=6), Manners(starts_at=0.5 * number))

    return play(story, prefill=1, decode=1, config=config)


def test_the_first_prompt_to_a_worker_goes_whole_and_the_others_in_parts() -> None:
    census = relayed().census
    assert census["prefill early_runs"] > NUM_ASKS
    assert census["sent done"] == NUM_ASKS


def test_by_default_pages_travel_whole() -> None:
    assert relayed(CONFIG).census["prefill early_runs"] == 0


def test_an_older_peer_is_sent_whole_pages_and_serves_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    original = KvEndpoint.meet

    async def meet(self: KvEndpoint, pair: Pair, given: Meet) -> Met:
        return replace(await original(self, pair, given), takes_layers=False)

    monkeypatch.setattr(KvEndpoint, "meet", meet)
    census = relayed().census
    assert census["prefill early_runs"] == 0
    assert census["sent done"] == NUM_ASKS


def test_storms_break_transfers_amid_their_layers() -> None:
    """Otherwise the storms with layers would prove nothing."""
    census = storm(4, layer_groups=2).census + storm(7, layer_groups=2).census + storm(9, layer_groups=2).census
    for name in ("prefill early_runs", "prefill staging_waits", "prefill aborted", "sent failed"):
        assert census[name], sorted(census.items())
