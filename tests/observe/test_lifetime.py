"""Goal: the stations of a request are kept in order and in bounds, and durations come out of them."""

from common.core.clock import ManualClock
from common.core.ids import RequestId
from common.core.request import Priority
from common.observe import catalogue
from common.observe.latency import observe_reached, observe_whole
from common.observe.lifetime import Lifetime, Mark, Station
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics


def lifetime(clock: ManualClock, name: str = "req-1", max_marks: int = 96) -> Lifetime:
    return Lifetime(RequestId(name), clock=clock, where="router-0", max_marks=max_marks)


def test_late_marks_of_other_processes_are_sorted_in() -> None:
    clock = ManualClock(10)
    life = lifetime(clock)
    life.mark(Station.RECEIVED, prompt_tokens=7)
    clock.advance(2)
    life.mark(Station.FIRST_TOKEN)
    life.take(Mark(station=Station.PREFILL_STARTED, at=11, where="prefill-0"))
    assert [mark.station for mark in life.marks] == ["received", "prefill_started", "first_token"]
    assert life.marks[0].facts == {"prompt_tokens": 7}
    assert life.seconds(Station.RECEIVED, Station.FIRST_TOKEN) == 2
    assert life.seconds(Station.RECEIVED, Station.FINISHED) is None


def test_a_long_life_keeps_its_beginning_and_its_end() -> None:
    clock = ManualClock()
    life = lifetime(clock, max_marks=8)
    life.mark(Station.RECEIVED)
    for _ in range(1000):
        clock.advance(1)
        life.mark(Station.CHUNK_COMPUTED)
    life.mark(Station.FINISHED)
    assert len(life.marks) == 8
    assert life.dropped == 1002 - 8
    assert (life.marks[0].station, life.marks[-1].station) == ("received", "finished")


def test_latencies_are_differences_of_stations() -> None:
    clock = ManualClock()
    metrics = Metrics(ProcessRole.ROUTER)
    life = lifetime(clock)
    for station, wait in (
        (Station.RECEIVED, 0.0),
        (Station.QUEUED, 0.0),
        (Station.ADMITTED, 0.4),
        (Station.FIRST_TOKEN, 0.5),
        (Station.FINISHED, 3.0),
    ):
        clock.advance(wait)
        life.mark(station)
        observe_reached(metrics, life, station, Priority.STANDARD)
    assert metrics.total(catalogue.E2E_SECONDS) == 0, "nobody said that it ended well"
    observe_whole(metrics, life, Priority.STANDARD)
    assert metrics.quantile(catalogue.TTFT_SECONDS, 1.0) == 1
    assert metrics.quantile(catalogue.QUEUE_SECONDS, 1.0) == 0.5
    assert metrics.quantile(catalogue.E2E_SECONDS, 1.0) == 5
    assert metrics.total(catalogue.HANDOFF_SECONDS) == 0
