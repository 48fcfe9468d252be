"""Every metric of Baton, with unit, bounded labels and a sentence.

Durations are differences of two lifetime stations, in seconds. Buckets have an edge at each usual service level
threshold. Nothing is labelled by request, tenant or worker: those numbers are unbounded.
"""

from collections.abc import Iterable

from common.core.cost.meter import CostStage
from common.core.errors import Reason
from common.core.queue import Cause
from common.core.request import FinishReason, Priority
from common.core.worker import Role, WorkerState
from common.observe.metric import Label, Metric, MetricKind, ProcessRole, closed, open_label

ROUTER = frozenset({ProcessRole.ROUTER})
PREFILL = frozenset({ProcessRole.PREFILL})
DECODE = frozenset({ProcessRole.DECODE})
GATEWAY = frozenset({ProcessRole.GATEWAY})
PLANNER = frozenset({ProcessRole.PLANNER})
WORKERS = PREFILL | DECODE
ALL = ROUTER | WORKERS | GATEWAY | PLANNER

TTFT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 20, 40, 80)
ITL_BUCKETS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5)
E2E_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
STEP_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 1, 2, 5)
TRANSFER_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
REDIS_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
TOKEN_BUCKETS = (1, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
ROW_BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)

TARGET = closed("target", Role)
PRIORITY = closed("priority", Priority)
REASON = closed("reason", Reason)
CHANNEL = closed("channel", ("same_host", "nccl", "gloo", "loopback"))
DIRECTION = closed("direction", ("sent", "received"))


def _counter(name: str, sentence: str, roles: frozenset[ProcessRole], *labels: Label, unit: str = "") -> Metric:
    return _metric(MetricKind.COUNTER, name, sentence, roles, labels, unit, ())


def _gauge(name: str, sentence: str, roles: frozenset[ProcessRole], *labels: Label, unit: str = "") -> Metric:
    return _metric(MetricKind.GAUGE, name, sentence, roles, labels, unit, ())


def _histogram(
    name: str,
    sentence: str,
    roles: frozenset[ProcessRole],
    buckets: tuple[float, ...],
    *labels: Label,
    unit: str = "seconds",
) -> Metric:
    return _metric(MetricKind.HISTOGRAM, name, sentence, roles, labels, unit, buckets)


def _metric(
    kind: MetricKind,
    name: str,
    sentence: str,
    roles: frozenset[ProcessRole],
    labels: Iterable[Label],
    unit: str,
    buckets: tuple[float, ...],
) -> Metric:
    return Metric(
        name=f"baton_{name}",
        kind=kind,
        sentence=sentence,
        unit=unit,
        labels=tuple(labels),
        buckets=buckets,
        roles=roles,
    )


# Requests. received = finished + failed + cancelled + refused + in flight. Only routers see whole requests; what a
# worker accepted and turned away is in rpcs_total by method and code.
REQUESTS_RECEIVED = _counter("requests_received_total", "Requests that arrived here.", ROUTER)
REQUESTS_FINISHED = _counter("requests_finished_total", "Requests that ended well here.", ROUTER)
REQUESTS_FAILED = _counter("requests_failed_total", "Requests that ended in an error here.", ROUTER, REASON)
REQUESTS_CANCELLED = _counter("requests_cancelled_total", "Requests that the client gave up.", ROUTER)
REQUESTS_REFUSED = _counter("requests_refused_total", "Requests turned away at once.", ROUTER, REASON)
REQUESTS_CLASSIFIED = _counter(
    "requests_classified_total",
    "Requests by class, by how much of the prompt must be computed, and whether a higher class was declared.",
    ROUTER,
    PRIORITY,
    closed("size", ("cached", "short", "long")),
    closed("declared", ("same", "higher")),
)
REQUESTS_WITHIN_TARGETS = _counter(
    "requests_within_targets_total",
    "Finished requests whose first token and mean time between tokens kept the class's promise: goodput.",
    ROUTER,
    PRIORITY,
)
REQUESTS_IN_FLIGHT = _gauge("requests_in_flight", "Requests or sequences taken on and not ended.", ALL)
PLACEMENTS = _counter(
    "placements_total", "Attempts to place a request, by route.", ROUTER, closed("route", ("remote", "local"))
)
COST_SOURCES = _counter(
    "placements_by_cost_total",
    "Placements by whose timings the reader was judged: its own, its peers', or the documented default.",
    ROUTER,
    closed("source", ("own", "peers", "default")),
)
DECISIONS_LOST = _counter("decisions_lost_total", "Decisions that the decision log could not keep.", ROUTER)
RETRIES = _counter("retries_total", "Placements after the first, by what ended the one before.", ROUTER, REASON)
CHOICES_MOVED = _counter(
    "choices_moved_total",
    "Choices that left a worker that drains: with the pages of their tokens, or to be read again elsewhere.",
    ROUTER,
    closed("outcome", ("pages", "recomputed")),
)
MOVE_GAP_SECONDS = _histogram(
    "move_gap_seconds",
    "From a moved choice's last token on the worker it left to its first one elsewhere.",
    ROUTER,
    ITL_BUCKETS,
    closed("outcome", ("pages", "recomputed")),
)
CHOICES_FINISHED = _counter(
    "choices_finished_total", "Choices that ended, by finish reason.", ROUTER, closed("reason", FinishReason)
)
DUPLICATE_TOKENS = _counter(
    "duplicate_tokens_dropped_total",
    "Tokens whose index the client already had; the stream stays exactly once.",
    ROUTER,
)
SLOW_READERS = _counter("slow_readers_total", "Streams cancelled because their buffer stayed full.", ROUTER)

# Latency as clients feel it.
TTFT_SECONDS = _histogram(
    "time_to_first_token_seconds",
    "From received to the first token given to the client.",
    ROUTER,
    TTFT_BUCKETS,
    PRIORITY,
)
ITL_SECONDS = _histogram(
    "inter_token_seconds", "Between two tokens of one choice at the router.", ROUTER, ITL_BUCKETS, PRIORITY
)
E2E_SECONDS = _histogram(
    "request_seconds", "From received to finished, for requests that ended well.", ROUTER, E2E_BUCKETS, PRIORITY
)
QUEUE_SECONDS = _histogram("queue_seconds", "From queued to admitted at the router.", ROUTER, TTFT_BUCKETS, PRIORITY)
PREFILL_SECONDS = _histogram(
    "prefill_seconds", "From admitted to first token: the leg that reads the prompt.", ROUTER, TTFT_BUCKETS
)
HANDOFF_SECONDS = _histogram(
    "handoff_seconds",
    "From first token (index 0) to running on decode: what the hand-over costs.",
    ROUTER,
    TTFT_BUCKETS,
)
PROMPT_LENGTH = _histogram("request_prompt_tokens", "Prompt lengths.", ROUTER, TOKEN_BUCKETS, unit="tokens")
OUTPUT_LENGTH = _histogram(
    "request_output_tokens", "Output lengths of finished choices.", ROUTER, TOKEN_BUCKETS, unit="tokens"
)

# Queues: what autoscaling reads.
QUEUE_REQUESTS = _gauge(
    "queue_requests", "Requests waiting, by the role they wait for and their class.", ROUTER, TARGET, PRIORITY
)
QUEUE_TOKENS = _gauge(
    "queue_tokens", "Uncached prompt tokens waiting, by role and class.", ROUTER, TARGET, PRIORITY, unit="tokens"
)
QUEUE_OLDEST_SECONDS = _gauge(
    "queue_oldest_seconds",
    "Age of the oldest request that waits, by role and class; 0: nobody waits.",
    ROUTER,
    TARGET,
    PRIORITY,
    unit="seconds",
)
QUEUE_DRAIN_SECONDS = _gauge(
    "queue_drain_seconds",
    "Predicted time until those who wait now are let in, by role and class. Absent, never 0, while it is not known.",
    ROUTER,
    TARGET,
    PRIORITY,
    unit="seconds",
)
QUEUE_BLOCKED = _gauge(
    "queue_blocked",
    "1 for the cause for which the first in line waits, 0 for the others.",
    ROUTER,
    closed("cause", Cause),
)
DECODE_ADMISSION_SECONDS = _gauge(
    "decode_admission_seconds",
    "How long those who got a place on decode lately had waited for it. Absent while nobody did.",
    ROUTER,
    unit="seconds",
)
PLACES = _gauge(
    "places",
    "Requests the fleet is known to have places for, by class. Absent before it was ever full.",
    ROUTER,
    PRIORITY,
)
TENANTS = _gauge("tenants", "Tenants whose use is kept track of.", ROUTER)
ROUTERS = _gauge("routers", "Live routers, by which the limits of tenants are divided.", ROUTER)
OUTSTANDING_EXPORTS = _gauge("outstanding_exports", "Prompts read whose pages have not all left.", PREFILL)
WAITING_REQUESTS = _gauge("waiting_requests", "Requests accepted by this worker and not yet computing.", WORKERS)
WAITING_TOKENS = _gauge("waiting_tokens", "Prompt tokens this worker still has to compute.", WORKERS, unit="tokens")
RUNNING_SEQUENCES = _gauge("running_sequences", "Sequences in the running batch.", WORKERS)
SUBSCRIPTIONS = _gauge("subscriptions", "Routers that listen to this worker's events.", WORKERS)

# Scaling: what the planner wants, and what it knows.
PLANNER_DESIRED = _gauge(
    "planner_desired_replicas",
    "Workers that there should be, by role: what autoscalers read. Absent before the first decision.",
    PLANNER,
    TARGET,
)
PLANNER_WORKERS = _gauge(
    "planner_workers",
    "Workers that the planner sees, by role and whether they take work.",
    PLANNER,
    TARGET,
    closed("state", ("ready", "starting", "draining")),
)
PLANNER_LOAD = _gauge(
    "planner_load_ratio",
    "Of what the ready workers can do, how much is asked now: seconds of reading, or places on decode.",
    PLANNER,
    TARGET,
    unit="ratio",
)
PLANNER_BLIND = _gauge(
    "planner_blind", "1 while a signal is missing: nothing is scaled down. Alert on this one.", PLANNER
)
PLANNER_CHANGES = _counter(
    "planner_changes_total", "Changes of what is wanted.", PLANNER, TARGET, closed("direction", ("up", "down"))
)
PLANNER_PATCHES = _counter(
    "planner_patches_total",
    "Scales that the planner set itself, by how that went.",
    PLANNER,
    closed("outcome", ("done", "refused", "failed")),
)
PLANNER_LEADS = _gauge("planner_leads", "1 while this planner holds the Lease and so may set scales.", PLANNER)
SCALER_QUESTIONS = _counter(
    "scaler_questions_total",
    "Questions of autoscalers, by the way they came and whether there was an answer.",
    PLANNER,
    closed("way", ("keda", "metrics_api")),
    closed("answer", ("value", "unknown")),
)

# Pages.
PAGES = _gauge(
    "pages",
    "KV pages by state; the four states sum to all pages.",
    WORKERS,
    closed("state", ("free", "promised", "referenced", "cached")),
)
PAGE_FRAGMENTATION = _gauge(
    "page_fragmentation_ratio", "Share of slots in referenced pages that hold no token.", WORKERS, unit="ratio"
)
KV_USAGE = _gauge(
    "kv_usage_ratio", "Share of pages promised or referenced: cached pages can be taken back.", WORKERS, unit="ratio"
)
PREFIX_HITS = _counter("prefix_hits_total", "Prompt pages found in the prefix cache.", WORKERS)
PREFIX_MISSES = _counter("prefix_misses_total", "Full prompt pages looked up and not found.", WORKERS)
PREFIX_EVICTIONS = _counter("prefix_evictions_total", "Cached pages given up for new ones.", WORKERS)
PROMPT_TOKENS = _counter(
    "prompt_tokens_total",
    "Prompt tokens by where their KV came from; extended are those a decode worker computed on purpose.",
    WORKERS,
    closed("source", ("computed", "cached", "received", "extended")),
)
GENERATED_TOKENS = _counter("generated_tokens_total", "Tokens sampled.", ALL)
RESERVATIONS = _gauge("reservations", "Promises that decode holds open.", DECODE)
RESERVATIONS_ENDED = _counter(
    "reservations_ended_total",
    "Promises by how they ended.",
    DECODE,
    closed("outcome", ("filled", "released", "expired", "failed")),
)

# The step loop.
STEP_SECONDS = _histogram("step_seconds", "One forward, from plan to tokens.", WORKERS, STEP_BUCKETS)
COST_STEPS = _gauge("cost_model_steps", "Steps that this worker's cost model was fitted to; 0: the default.", WORKERS)
COST_AGE = _gauge("cost_model_age_seconds", "Since the last step that it learnt from.", WORKERS, unit="seconds")
COST_ERROR = _gauge(
    "cost_model_error_ratio",
    "Recent mean of |predicted - measured| / measured, predicted before it was learnt from.",
    WORKERS,
    closed("stage", CostStage),
    unit="ratio",
)
STEP_ROWS = _histogram("step_rows", "Rows of one step: the batch size.", WORKERS, ROW_BUCKETS, unit="rows")
STEP_TOKENS = _histogram("step_tokens", "Tokens of one step.", WORKERS, TOKEN_BUCKETS, unit="tokens")
PREEMPTIONS = _counter("preemptions_total", "Sequences sent back to be recomputed because pages ran out.", WORKERS)
ABORTS = _counter("aborts_total", "Sequences removed before they finished.", WORKERS)
KEPT_SEQUENCES = _counter(
    "kept_sequences_total", "Sequences whose pages were kept here for another worker to fetch.", WORKERS
)
DRAIN_CUTS = _counter("drain_cuts_total", "Works that were left, and given up, when a drain's time was over.", ALL)
DRAINING = _gauge("draining", "1 while this process refuses new work and waits for what it has.", ALL)
POISONED = _counter("poisoned_rows_total", "Rows that drew no token: NaN or an impossible id.", WORKERS)

# The travel of pages. started = done + failed + expired + in flight, on both sides.
TRANSFERS_STARTED = _counter("transfers_started_total", "Transfers begun.", WORKERS, CHANNEL, DIRECTION)
TRANSFERS_ENDED = _counter(
    "transfers_ended_total",
    "Transfers ended, each exactly once.",
    WORKERS,
    CHANNEL,
    DIRECTION,
    closed("outcome", ("done", "failed", "expired")),
)
TRANSFERS_IN_FLIGHT = _gauge("transfers_in_flight", "Transfers begun and not ended.", WORKERS, CHANNEL, DIRECTION)
TRANSFER_FAILURES = _counter("transfer_failures_total", "Why transfers failed.", WORKERS, CHANNEL, REASON)
TRANSFER_BYTES = _counter("transfer_bytes_total", "Page bytes moved.", WORKERS, CHANNEL, DIRECTION, unit="bytes")
TRANSFER_SECONDS = _histogram(
    "transfer_seconds",
    "One run of pages on the channel, offer to last byte.",
    WORKERS,
    TRANSFER_BUCKETS,
    CHANNEL,
    DIRECTION,
)
LANDED_BYTES = _counter("landed_bytes_total", "Bytes copied from staging into promised pages.", DECODE, unit="bytes")
DIGEST_FAILURES = _counter("digest_failures_total", "Pages whose digest differed; each was computed again.", WORKERS)
STALE_REFUSED = _counter(
    "stale_refused_total",
    "Frames, writes and commands of an older incarnation that were refused.",
    ALL,
    closed("fence", ("epoch", "generation", "attempt")),
)
STALE_APPLIED = _counter("stale_writes_applied_total", "Stale writes that got through: always 0, or a bug.", WORKERS)
LINKS = _gauge("links", "Open pairs to other workers.", WORKERS)
LINKS_CLOSED = _counter(
    "links_closed_total",
    "Pairs closed: least recently used, broken, peer restarted, or draining.",
    WORKERS,
    closed("cause", ("lru", "failed", "epoch", "drain")),
)

# Redis. A hint only: these say how good the hint is.
DIRECTORY_STALE = _gauge("directory_stale", "1 while Redis does not answer and hints are old. Alert on this one.", ALL)
DIRECTORY_STALENESS_SECONDS = _gauge(
    "directory_staleness_seconds", "Age of the newest answer from Redis.", ALL, unit="seconds"
)
DIRECTORY_BREAKER = _gauge("directory_breaker_state", "Circuit to Redis: 0 closed, 1 half open, 2 open.", ALL)
DIRECTORY_ERRORS = _counter(
    "directory_errors_total",
    "Commands that Redis did not carry out.",
    ALL,
    closed("kind", ("timeout", "connection", "denied", "readonly", "full", "mismatch", "other")),
)
DIRECTORY_SECONDS = _histogram("directory_command_seconds", "One round trip to Redis.", ALL, REDIS_BUCKETS)
DIRECTORY_RESYNCS = _counter(
    "directory_resyncs_total",
    "Ownership read again from a snapshot.",
    ALL,
    closed("cause", ("start", "gap", "new_epoch", "emptied", "returned", "trimmed")),
)
MEMBERS = _gauge("members", "Workers this router sees.", ROUTER, TARGET, closed("state", WorkerState))
OWNED_PREFIXES = _gauge("owned_prefixes", "Page hashes in this router's replica.", ROUTER)
PREDICTED_PREFIXES = _gauge("predicted_prefixes", "Page hashes of prompts just routed, not yet told of.", ROUTER)
OWNERSHIP_AGE_SECONDS = _histogram(
    "ownership_age_seconds", "From a change's arrival in Redis to its arrival in this replica.", ROUTER, REDIS_BUCKETS
)
OWNERSHIP_EVENTS_BEHIND = _gauge(
    "ownership_events_behind", "Ownership events that workers have told and this replica has not seen.", ROUTER
)

# gRPC and the process itself.
RPCS = _counter("rpcs_total", "Calls served.", ALL, open_label("method", 48), open_label("code", 17))
HTTP_REQUESTS = _counter(
    "http_requests_total", "Exchanges over HTTP.", GATEWAY, open_label("path", 24), open_label("status", 24)
)
HTTP_SECONDS = _histogram(
    "http_seconds", "From a request's head to the end of its answer.", GATEWAY, E2E_BUCKETS, open_label("path", 24)
)
LOOP_LAG_SECONDS = _gauge(
    "event_loop_lag_seconds", "How late the event loop was at worst since the last scrape.", ALL, unit="seconds"
)
PROCESS_MEMORY_BYTES = _gauge("process_memory_bytes", "Resident memory of the process.", ALL, unit="bytes")
PROCESS_CPU = _gauge("process_cpu_ratio", "Cores used since the last look: 1 is one core.", ALL, unit="ratio")
DEVICE_MEMORY_BYTES = _gauge(
    "device_memory_bytes", "Memory used on each device.", WORKERS, open_label("device", 16), unit="bytes"
)
DEVICE_UTILISATION = _gauge(
    "device_utilisation_ratio", "Share of time each device computed.", WORKERS, open_label("device", 16), unit="ratio"
)
LOG_EVENTS_DROPPED = _counter("log_events_dropped_total", "Log lines held back by a once-a-minute rule.", ALL)
BUILD_INFO = _gauge(
    "build_info", "Always 1; the labels say what runs.", ALL, open_label("version", 1), open_label("python", 1)
)
CACHE_INFO = _gauge(
    "cache_info",
    "Always 1; the labels describe the pages.",
    WORKERS,
    open_label("page_size", 1),
    open_label("num_pages", 1),
    open_label("dtype", 1),
)

CATALOGUE: tuple[Metric, ...] = tuple(value for value in dict(globals()).values() if isinstance(value, Metric))
"""All of the above, in order."""
