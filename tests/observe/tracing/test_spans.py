"""Goal: stations become the spans that a reader of traces expects. Method: marks of three kinds of request."""

from common.observe.lifetime import Mark, Station
from common.observe.tracing.spans import Span, spans_of


def marks(*told: tuple[float, Station, str]) -> tuple[Mark, ...]:
    return tuple(Mark(station=station, at=at, where=where) for at, station, where in told)


def outline(spans: tuple[Span, ...]) -> list[tuple[str, str, float, float, int]]:
    return [(span.name, span.where, span.start, span.end, span.attempt) for span in spans]


REMOTE = marks(
    (0.0, Station.RECEIVED, "router-0"),
    (0.1, Station.QUEUED, "router-0"),
    (0.2, Station.ADMITTED, "router-0"),
    (0.3, Station.ROUTED, "router-0"),
    (0.4, Station.RESERVED, "decode-1"),
    (0.5, Station.PREFILL_STARTED, "prefill-0"),
    (0.6, Station.CHUNK_COMPUTED, "prefill-0"),
    (0.65, Station.CHUNK_SHIPPED, "prefill-0"),
    (0.7, Station.CHUNK_COMPUTED, "prefill-0"),
    (0.75, Station.FIRST_TOKEN, "router-0"),
    (0.76, Station.CHUNK_LANDED, "decode-1"),
    (0.8, Station.VERIFIED, "decode-1"),
    (0.9, Station.RUNNING, "decode-1"),
    (2.0, Station.FINISHED, "router-0"),
)


def test_a_relayed_request_is_queued_placed_read_shipped_and_written() -> None:
    spans = spans_of(REMOTE)
    assert outline(spans) == [
        ("queue", "router-0", 0.1, 0.2, 1),
        ("place", "router-0", 0.2, 0.4, 1),
        ("prefill", "prefill-0", 0.5, 0.7, 1),
        ("transfer", "decode-1", 0.6, 0.8, 1),
        ("decode", "decode-1", 0.9, 2.0, 1),
    ]
    events = {span.name: [mark.station for mark in span.events] for span in spans}
    assert events["place"] == [Station.ROUTED]
    assert events["prefill"] == [Station.CHUNK_COMPUTED, Station.CHUNK_SHIPPED]
    assert events["transfer"] == [Station.CHUNK_LANDED]


def test_a_local_request_has_no_transfer() -> None:
    local = marks(
        (0.1, Station.QUEUED, "router-0"),
        (0.2, Station.ADMITTED, "router-0"),
        (0.3, Station.PREFILL_QUEUED, "decode-0"),
        (0.5, Station.PREFILL_STARTED, "decode-0"),
        (0.6, Station.CHUNK_COMPUTED, "decode-0"),
        (0.6, Station.RUNNING, "decode-0"),
        (2.0, Station.FINISHED, "router-0"),
    )
    assert [span.name for span in spans_of(local)] == ["queue", "place", "prefill", "decode"]


def test_a_retry_has_spans_of_its_own_and_what_broke_lasts_until_then() -> None:
    first = marks((0.0, Station.QUEUED, "r"), (0.1, Station.ADMITTED, "r"), (0.2, Station.PREFILL_STARTED, "p0"))
    again = marks((1.0, Station.RETRIED, "r"), (1.1, Station.QUEUED, "r"), (1.2, Station.ADMITTED, "r"))
    spans = outline(spans_of((*first, *again)))
    assert ("prefill", "p0", 0.2, 1.0, 1) in spans
    assert ("queue", "r", 1.1, 1.2, 2) in spans


def test_whoever_was_refused_at_once_has_no_parts() -> None:
    assert spans_of(marks((0.0, Station.RECEIVED, "r"), (0.1, Station.FINISHED, "r"))) == ()
    assert spans_of(()) == ()
