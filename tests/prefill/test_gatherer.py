"""A decode worker that does not take its pages delays its own prompts, and nobody else's."""

from common.core.clock import ManualClock
from common.core.ids import Epoch, ReservationId, WorkerId, WorkerRef
from services.prefill.messages import Destination, RunReady
from tests.engine.relay import PrefillSide, make_prefill
from tests.engine.rig import work

PROMPT_TOKENS = 40


def destination(name: str, reservation: str) -> Destination:
    worker = WorkerRef(worker=WorkerId(name), epoch=Epoch(1), address=f"{name}:1")
    return Destination(worker=worker, reservation=ReservationId(reservation), held_pages=0)


def turn(side: PrefillSide, clock: ManualClock) -> list[RunReady]:
    """Runs that became ready until nothing more happens. Nobody gives their staging back meanwhile."""
    ready: list[RunReady] = []
    for _ in range(200):
        clock.advance(0.001)
        did_work = side.core.advance()
        ready += [event for event in side.core.take_events() if isinstance(event, RunReady)]
        if not did_work:
            return ready
    raise AssertionError("still busy")


def test_a_slow_destination_leaves_staging_for_the_others() -> None:
    clock = ManualClock()
    side = make_prefill(clock, num_staging=4)
    side.core.submit(work("slow", prompt=list(range(PROMPT_TOKENS))), destination("d-slow", "res-1"))
    stuck = turn(side, clock)
    assert len(stuck) == 2, "half of the staging, and no run more"
    side.core.submit(work("quick", prompt=list(range(100, 100 + PROMPT_TOKENS))), destination("d-quick", "res-2"))
    shipped = 0
    while ready := turn(side, clock):
        for run in ready:
            assert run.request == "quick"
            shipped += run.run.num_pages
            if run.staging is not None:
                run.staging.release()
    assert ready == []
    assert shipped > 0
    for run in stuck:
        assert run.staging is not None
        run.staging.release()
    rest = []
    while ready := turn(side, clock):
        for run in ready:
            rest.append(run)
            if run.staging is not None:
                run.staging.release()
    assert rest[-1].finale is not None, "the slow one's prompt goes on where it stood"
    assert {run.request for run in rest} == {"slow"}
