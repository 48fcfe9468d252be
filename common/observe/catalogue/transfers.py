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
    "One run of pages on the channel, offer to last byte.",
    WORKERS,
    TRANSFER_BUCKETS,
    CHANNEL,
    DIRECTION,
)
LANDED_BYTES = counter("landed_bytes_total", "Bytes copied from staging into promised pages.", DECODE, unit="bytes")
DIGEST_FAILURES = counter("digest_failures_total", "Pages whose digest differed; each was computed again.", WORKERS)
STALE_REFUSED = counter(
    "stale_refused_total",
    "Frames, writes and commands of an older incarnation that were refused.",
    ALL,
    closed("fence", ("epoch", "generation", "attempt")),
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
    "Pairs closed: least recently used, broken, peer restarted, or draining.",
    WORKERS,
    closed("cause", ("lru", "failed", "epoch", "drain")),
)
