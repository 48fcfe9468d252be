"""Goal: trouble that repeats with every request writes one line a minute. Method: a ManualClock and a list as log."""

from common.core.clock import ManualClock
from common.observe.throttle import ThrottledLog


class ListLog:
    """Keeps what was logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def warning(self, event: str, **facts: object) -> None:
        self.lines.append((event, facts))

    debug = info = error = warning

    def bind(self, **facts: object) -> "ListLog":
        return self


def test_an_event_is_written_once_a_minute_with_the_number_held_back() -> None:
    clock, log = ManualClock(), ListLog()
    throttled = ThrottledLog(log, clock)
    for _ in range(600):
        throttled.warning("directory_away", kind="timeout")
        clock.advance(0.2)
    assert log.lines == [
        ("directory_away", {"kind": "timeout"}),
        ("directory_away", {"kind": "timeout", "held_back": 299}),
    ]
    assert throttled.held_back == 598


def test_events_do_not_silence_each_other() -> None:
    clock, log = ManualClock(), ListLog()
    throttled = ThrottledLog(log, clock)
    assert throttled.warning("directory_away")
    assert throttled.warning("directory_returned")
    assert not throttled.warning("directory_away")
