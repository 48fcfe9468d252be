"""When a channel that was passed over is worth another try: pure, so time is a number."""

from common.core.ids import Epoch, WorkerId, WorkerRef
from common.transfer.setbacks import MAX_IN_ROW, MAX_REMEMBERED_PEERS, MAX_REST_S, SetbackCause, Setbacks

RETRY_S = 30.0


def peer(name: str = "d", epoch: int = 1) -> WorkerRef:
    return WorkerRef(WorkerId(name), Epoch(epoch), f"{name}:1")


def fail(setbacks: Setbacks, to: WorkerRef, now: float, cause: SetbackCause = SetbackCause.SILENT) -> float:
    """Until when it rests."""
    setback = setbacks.note(to, "nccl", cause, "why", now)
    assert setback.until_s is not None
    return setback.until_s


def test_a_rest_doubles_with_each_failure_in_a_row_up_to_its_ceiling() -> None:
    setbacks, now, rests = Setbacks(RETRY_S), 0.0, []
    for _ in range(10):
        until_s = fail(setbacks, peer(), now)
        rests.append(until_s - now)
        found = setbacks.find(peer(), "nccl", until_s - 0.001)
        assert found is not None
        assert found.cause is SetbackCause.SILENT
        now = until_s + MAX_REST_S  # past the channel's own rest too
        assert setbacks.find(peer(), "nccl", now) is None
    assert rests[:3] == [RETRY_S, 2 * RETRY_S, 4 * RETRY_S]
    assert rests[-1] == MAX_REST_S


def test_what_differs_by_facts_is_never_tried_with_that_incarnation_again() -> None:
    setbacks = Setbacks(RETRY_S)
    setbacks.note(peer(epoch=1), "nccl", SetbackCause.MISFIT, "no GPU", 0.0)
    assert setbacks.find(peer(epoch=1), "nccl", 1e9) is not None
    assert setbacks.find(peer(epoch=2), "nccl", 0.0) is None, "another process: its facts are its own"
    assert setbacks.find(peer("e"), "nccl", 0.0) is None, "and no streak comes of it"


def test_what_was_full_is_asked_again_without_growing_patience() -> None:
    setbacks, now = Setbacks(RETRY_S), 0.0
    for _ in range(2 * MAX_IN_ROW):
        assert fail(setbacks, peer(), now, SetbackCause.FULL) == now + RETRY_S
        now += RETRY_S
    assert setbacks.find(peer("e"), "nccl", now) is None


def test_failures_in_a_row_with_whomever_let_the_channel_rest_and_one_try_ends_it() -> None:
    """A fleet restarts behind a firewall: a few silences, then one try for each rest."""
    setbacks = Setbacks(RETRY_S)
    for number in range(MAX_IN_ROW):
        assert setbacks.find(peer(f"d{number}"), "nccl", 0.0) is None
        fail(setbacks, peer(f"d{number}"), 0.0)
    others = [peer(f"e{number}") for number in range(100)]
    assert {setbacks.find(other, "nccl", 1.0).cause for other in others} == {SetbackCause.RESTING}  # type: ignore[union-attr]
    now, tries = RETRY_S, []
    for other in others:
        if setbacks.find(other, "nccl", now) is None:
            tries.append(other)
            setbacks.begin("nccl", now)
    assert tries == others[:1], "whoever comes while that one is tried passes it over"
    fail(setbacks, tries[0], now)
    assert setbacks.find(others[1], "nccl", now + 1.9 * RETRY_S) is not None, "twice as long"
    setbacks.opened(others[2], "nccl")
    assert setbacks.find(others[1], "nccl", now + 1.0) is None, "it works again"


def test_one_whom_it_reached_pays_for_nobody_elses_failures() -> None:
    setbacks = Setbacks(RETRY_S)
    setbacks.opened(peer("near"), "nccl")
    for number in range(MAX_IN_ROW):
        fail(setbacks, peer(f"d{number}"), 0.0)
    assert setbacks.find(peer("near"), "nccl", 0.0) is None
    assert setbacks.find(peer("near", epoch=2), "nccl", 0.0) is not None
    fail(setbacks, peer("near"), 0.0)
    assert setbacks.find(peer("near"), "nccl", 0.0) is not None, "but for its own"


def test_the_memory_is_bounded() -> None:
    setbacks = Setbacks(RETRY_S)
    for number in range(MAX_REMEMBERED_PEERS + 10):
        setbacks.note(peer(epoch=number), "nccl", SetbackCause.MISFIT, "no GPU", 0.0)
    assert len(setbacks._peers) == MAX_REMEMBERED_PEERS
    assert setbacks.find(peer(epoch=0), "nccl", 0.0) is None
    assert setbacks.find(peer(epoch=MAX_REMEMBERED_PEERS), "nccl", 0.0) is not None
