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
    rate.add(100, 1.0)
    assert rate.per_second(61.0) < 0.001
