"""Redis. A hint only: these say how good the hint is."""

from common.core.worker import WorkerState
from common.observe.catalogue.vocabulary import ALL, REDIS_BUCKETS, ROUTER, TARGET, counter, gauge, histogram
from common.observe.metric import closed

DIRECTORY_STALE = gauge("directory_stale", "1 while Redis does not answer and hints are old. Alert on this one.", ALL)
DIRECTORY_STALENESS_SECONDS = gauge(
    "directory_staleness_seconds", "Age of the newest answer from Redis.", ALL, unit="seconds"
)
DIRECTORY_BREAKER = gauge("directory_breaker_state", "Circuit to Redis: 0 closed, 1 half open, 2 open.", ALL)
DIRECTORY_ERRORS = counter(
    "directory_errors_total",
    "Commands that Redis did not carry out.",
    ALL,
    closed("kind", ("timeout", "connection", "denied", "readonly", "full", "mismatch", "other")),
)
DIRECTORY_SECONDS = histogram("directory_command_seconds", "One round trip to Redis.", ALL, REDIS_BUCKETS)
DIRECTORY_RESYNCS = counter(
    "directory_resyncs_total",
    "Ownership read again from a snapshot.",
    ALL,
    closed("cause", ("start", "gap", "new_epoch", "emptied", "returned", "trimmed")),
)
REDIS_MEMORY_BYTES = gauge(
    "redis_memory_bytes", "What Redis holds. Absent where this user may not ask.", ROUTER, unit="bytes"
)
REDIS_LIMIT_BYTES = gauge(
    "redis_limit_bytes", "What Redis may hold before it refuses writes. Absent without a limit.", ROUTER, unit="bytes"
)
MEMBERS = gauge("members", "Workers this router sees.", ROUTER, TARGET, closed("state", WorkerState))
OWNED_PREFIXES = gauge("owned_prefixes", "Page hashes in this router's replica.", ROUTER)
PREDICTED_PREFIXES = gauge("predicted_prefixes", "Page hashes of prompts just routed, not yet told of.", ROUTER)
OWNERSHIP_AGE_SECONDS = histogram(
    "ownership_age_seconds", "From a change's arrival in Redis to its arrival in this replica.", ROUTER, REDIS_BUCKETS
)
OWNERSHIP_EVENTS_BEHIND = gauge(
    "ownership_events_behind", "Ownership events that workers have told and this replica has not seen.", ROUTER
)
