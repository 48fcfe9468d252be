"""The travel of pages. started = done + failed + expired + in flight, on both sides."""

from common.observe.catalogue.vocabulary import (
    ALL,
    CHANNEL,
    DECODE,
    DIRECTION,
    REASON,
    TRANSFER_BUCKETS,
    WORKERS,
    counter,
    gauge,
    histogram,
)
from common.observe.metric import closed

TRANSFERS_STARTED = counter("transfers_started_total", "Transfers begun.", WORKERS, CHANNEL, DIRECTION)
TRANSFERS_ENDED = counter(
    "transfers_ended_total",
    "Transfers ended, each exactly once.",
    WORKERS,
    CHANNEL,
    DIRECTION,
    closed("outcome", ("done", "failed", "expired")),
)
TRANSFERS_IN_FLIGHT = gauge("transfers_in_flight", "Transfers begun and not ended.", WORKERS, CHANNEL, DIRECTION)
TRANSFER_FAILURES = counter("transfer_failures_total", "Why transfers failed.", WORKERS, CHANNEL, REASON)
TRANSFER_BYTES = counter("transfer_bytes_total", "Page bytes moved.", WORKERS, CHANNEL, DIRECTION, unit="bytes")
TRANSFER_SECONDS = histogram(
    "transfer_seconds",
    "One run of pages: from its turn on the channel (sent), or its acceptance (received), to its last byte.",
    WORKERS,
    TRANSFER_BUCKETS,
    CHANNEL,
    DIRECTION,
)
LANDED_BYTES = counter("landed_bytes_total", "Bytes copied from staging into promised pages.", DECODE, unit="bytes")
DIGEST_FAILURES = counter(
    "digest_failures_total", "Runs of pages that did not fit their digests; nothing was computed from them.", WORKERS
)
STALE_REFUSED = counter(
    "stale_refused_total",
    "What came from a life that is over and was refused: meetings and offers of a transfer's incarnation, pair or "
    "attempt (transfer), pages that had landed and events of a work's attempt (attempt).",
    ALL,
    closed("fence", ("transfer", "attempt")),
)
LINKS = gauge("links", "Open pairs to other workers.", WORKERS)
TRANSFER_LINKS = gauge(
    "transfer_links", "Open pairs to other workers by what carries them.", WORKERS, CHANNEL, DIRECTION
)
CHANNELS_PASSED_OVER = counter(
    "channels_passed_over_total",
    "Pairs opened without this better channel, by what stood in its way: facts that differ, silence, a failure, all of "
    "its pairs in use, or a rest after failures.",
    WORKERS,
    CHANNEL,
    closed("cause", ("misfit", "silent", "broken", "full", "resting")),
)
LINKS_CLOSED = counter(
    "links_closed_total",
    "Pairs closed: least recently used, broken, or followed by a newer one of the same peer.",
    WORKERS,
    closed("cause", ("lru", "failed", "epoch")),
)
