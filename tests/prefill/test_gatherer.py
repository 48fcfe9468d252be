"""A decode worker that does not take its pages delays its own prompts, and nobody else's; one that lends room gets its
pages where it reads them.
"""

from dataclasses import dataclass, field

import pytest

from common.core.clock import ManualClock
from common.core.errors import Reason, TransferFailed
from common.core.ids import Epoch, ReservationId, WorkerId, WorkerRef
from common.kv.digest import DigestKey, digest_pages
from common.kv.sim_storage import SimStorage
from services.prefill.messages import Destination, RunReady
from tests.engine.relay import PrefillSide, make_prefill
from tests.engine.rig import LAYOUT, work

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


class Slot:
    """Room at the receiver."""

    def __init__(self, lane: "OneLane", num_bytes: int) -> None:
        self.view = memoryview(bytearray(num_bytes))
        self._lane = lane

    def release(self) -> None:
        self._lane.num_lent -= 1


@dataclass
class OneLane:
    """Lanes to one worker, with room for `most` runs."""

    worker: WorkerRef
    most: int
    key: DigestKey | None = field(default_factory=lambda: DigestKey(bytes(range(32))))
    num_lent: int = 0

    def to(self, worker: WorkerRef) -> "OneLane | None":
        return self if worker == self.worker else None

    def lend(self, num_bytes: int) -> Slot | None:
        if self.num_lent == self.most:
            return None
        self.num_lent += 1
        return Slot(self, num_bytes)


def laned(clock: ManualClock, *, most: int, has_key: bool = True) -> tuple[PrefillSide, OneLane]:
    side = make_prefill(clock, num_staging=4)
    lanes = OneLane(destination("d", "res-1").worker, most)
    if not has_key:
        lanes.key = None
    side.core.gatherer.lanes = lanes  # type: ignore[assignment]  # what the gatherer asks of them
    side.core.submit(work("r", prompt=list(range(PROMPT_TOKENS))), destination("d", "res-1"))
    return side, lanes


def test_runs_are_gathered_where_their_receiver_reads_them_and_into_staging_beyond_its_room() -> None:
    clock = ManualClock()
    side, lanes = laned(clock, most=1)
    first = turn(side, clock)
    assert [isinstance(run.staging, Slot) for run in first] == [True] + [False] * (len(first) - 1)
    assert len(first) == 3, "one slot, and half of the staging"
    assert side.core.look().load.outstanding_exports == 3
    assert side.core.counters.slot_runs == 1
    assert lanes.key is not None
    for run in first:
        assert run.staging is not None
        assert run.sealing is not None
        view = memoryview(run.staging.view)[: run.num_bytes]  # type: ignore[arg-type]  # of the host's memory
        expected = digest_pages(view, LAYOUT.page_bytes, lanes.key, first_index=run.run.first_page)
        assert run.sealing.finish() == b"".join(expected)
        assert run.sealing.key is lanes.key
        run.staging.release()
    rest = []
    while ready := turn(side, clock):
        for run in ready:
            rest.append(run)
            if run.staging is not None:
                run.staging.release()
    assert rest[-1].finale is not None
    assert lanes.num_lent == 0
    assert side.core.look().load.outstanding_exports == 0


def test_without_room_anywhere_a_run_stays_and_nobody_waits() -> None:
    clock = ManualClock()
    side, lanes = laned(clock, most=0)
    stuck = turn(side, clock)
    assert len(stuck) == 2
    assert not turn(side, clock)
    lanes.most = 1
    assert isinstance(turn(side, clock)[0].staging, Slot), "a slot that came free is taken at the next turn"


def test_before_the_keys_are_made_runs_go_without_digests_and_into_slots_all_the_same() -> None:
    clock = ManualClock()
    side, _ = laned(clock, most=1, has_key=False)
    first = turn(side, clock)
    assert isinstance(first[0].staging, Slot)
    assert [run.sealing for run in first] == [None] * len(first)


def test_a_gpu_without_memory_for_digests_gathers_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step loop lives on, and the run keeps its place; whoever ships it makes them, or fails its transfer alone."""

    def refuse(*_args: object, **_named: object) -> None:
        raise TransferFailed(message="no memory for digests", reason=Reason.MEMORY_PRESSURE)

    monkeypatch.setattr(SimStorage, "gather_sealed", refuse)
    clock = ManualClock()
    side, _ = laned(clock, most=1)
    first = turn(side, clock)
    assert isinstance(first[0].staging, Slot)
    assert [run.sealing for run in first] == [None] * len(first)
    assert any(memoryview(first[0].staging.view)), "its pages are there"


def test_runs_to_a_worker_without_a_lane_go_through_staging() -> None:
    clock = ManualClock()
    side, _ = laned(clock, most=4)
    side.core.submit(work("other", prompt=list(range(100, 100 + PROMPT_TOKENS))), destination("d-other", "res-2"))
    ready = turn(side, clock)
    assert {isinstance(run.staging, Slot) for run in ready if run.request == "other"} == {False}
    assert {run.sealing for run in ready if run.request == "other"} == {None}
