"""What a core shows of itself: counters by name, as they are now."""

from dataclasses import asdict

from common.engine.look import totals
from common.kv.cache import CacheCounters
from services.decode.counters import DecodeCounters


def test_counters_are_shown_by_name_and_as_of_now() -> None:
    counting, cached = DecodeCounters(decoded_tokens=3), CacheCounters(hits=2)
    shown = totals(counting, cached)
    assert shown == {**asdict(counting), **asdict(cached)}
    counting.decoded_tokens += 1
    assert shown["decoded_tokens"] == 3
    assert totals(counting, cached)["decoded_tokens"] == 4
