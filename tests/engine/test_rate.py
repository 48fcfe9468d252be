"""A rate follows what happens and forgets it."""

import pytest

from common.engine.rate import Rate


def test_a_steady_stream_shows_its_rate() -> None:
    rate = Rate(window_s=5.0)
    for step in range(1000):
        rate.add(2, step * 0.05)
    assert rate.per_second(50.0) == pytest.approx(40.0, rel=0.05)


def test_silence_brings_it_to_zero() -> None:
    rate = Rate(window_s=5.0)
    rate.add(10_000, 1.0)
    assert rate.per_second(31.0) > 0.0
    assert rate.per_second(71.0) == 0.0, "a planner that may send everybody home waits for it"


def test_a_single_token_shows_for_some_seconds() -> None:
    """Between looks of two seconds it may have come and gone."""
    rate = Rate(window_s=5.0)
    rate.add(1, 1.0)
    assert rate.per_second(11.0) > 0.0
