"""Goal: three failures open the circuit, a probe at a time closes it. Method: ManualClock."""

from common.core.clock import ManualClock
from common.directory.breaker import Breaker, BreakerState


def opened(clock: ManualClock) -> Breaker:
    breaker = Breaker(clock, probe_s=1.0)
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    return breaker


def test_three_failures_in_a_row_open_the_circuit_and_a_success_in_between_does_not() -> None:
    breaker = Breaker(ManualClock(), probe_s=1.0)
    for _ in range(10):
        breaker.failed()
        breaker.failed()
        assert not breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert not opened(ManualClock()).allows()


def test_one_probe_per_period_and_a_failed_one_opens_again_at_once() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    for _ in range(3):
        clock.advance(0.9)
        assert not breaker.allows()
        clock.advance(0.1)
        assert breaker.allows()
        assert not breaker.allows()
        breaker.failed()
    clock.advance(1)
    assert breaker.allows()
    assert breaker.succeeded()
    assert breaker.allows()


def test_a_cancelled_probe_is_offered_again() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    clock.advance(1)
    assert breaker.allows()
    breaker.abandoned()
    assert breaker.allows()
