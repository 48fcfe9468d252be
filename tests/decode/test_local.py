"""Goal: a prompt that is read where its answer is written is told of like any other. Method: one core, by hand."""

from common.core.clock import ManualClock
from common.core.events import PrefillDone, StationReached
from common.engine.telling import Outgoing
from tests.engine.relay import make_decode
from tests.engine.rig import work


def test_a_local_prompt_passes_the_stations_of_reading_once() -> None:
    clock = ManualClock()
    side = make_decode(clock)
    side.core.start_local(work("local", list(range(9)), max_tokens=3))
    told = []
    while side.core.advance():
        clock.advance(0.001)
        told += [event.event for event in side.core.take_events() if isinstance(event, Outgoing)]
    stations = [(event.name, dict(event.facts)) for event in told if isinstance(event, StationReached)]
    assert stations == [
        ("prefill_queued", {"tokens": 9}),
        ("prefill_started", {"cached_tokens": 0}),
        ("chunk_computed", {"tokens": 9}),
    ]
    assert sum(isinstance(event, PrefillDone) for event in told) == 1
