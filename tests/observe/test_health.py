"""Goal: alive means turning, ready means a real token, and draining ends readiness for good."""

from common.core.clock import ManualClock
from common.observe.health import Condition, LoopProgress, Readiness


def test_a_loop_that_stops_turning_is_dead_after_its_grace() -> None:
    clock, turns = ManualClock(), [0]
    progress = LoopProgress(clock, lambda: turns[0], stall_s=10)
    for _ in range(5):
        clock.advance(9)
        turns[0] += 1
        assert progress.is_alive()
    clock.advance(9)
    assert progress.is_alive()
    clock.advance(1)
    assert not progress.is_alive()
    assert progress.silent_s() == 10
    turns[0] += 1
    assert progress.is_alive()


def missing(readiness: Readiness) -> list[str]:
    return list(readiness.missing)


def test_ready_needs_every_condition_and_no_drain() -> None:
    readiness = Readiness([Condition.MODEL_LOADED, Condition.TOKEN_GENERATED])
    assert missing(readiness) == ["model_loaded", "token_generated"]
    readiness.meet(Condition.MODEL_LOADED)
    readiness.meet(Condition.MODEL_LOADED)
    assert missing(readiness) == ["token_generated"]
    readiness.meet(Condition.TOKEN_GENERATED)
    assert missing(readiness) == []
    readiness.drain()
    readiness.meet(Condition.TOKEN_GENERATED)
    assert not readiness.is_ready
    assert missing(readiness) == ["draining"]
