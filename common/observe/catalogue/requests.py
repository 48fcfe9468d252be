"""Whole requests, which only routers see, and their latency as clients feel it.

received = finished + failed + cancelled + refused + in flight. What a worker accepted and turned away is in rpcs_total,
by method and code.
"""

from common.core.request import FinishReason
from common.observe.catalogue.vocabulary import (
    ALL,
    E2E_BUCKETS,
    ITL_BUCKETS,
    PLANNER,
    PRIORITY,
    REASON,
    ROUTER,
    TOKEN_BUCKETS,
    TTFT_BUCKETS,
    counter,
    gauge,
    histogram,
)
from common.observe.metric import closed

REQUESTS_RECEIVED = counter("requests_received_total", "Requests that arrived here.", ROUTER)
REQUESTS_FINISHED = counter("requests_finished_total", "Requests that ended well here.", ROUTER)
REQUESTS_FAILED = counter("requests_failed_total", "Requests that ended in an error here.", ROUTER, REASON)
REQUESTS_CANCELLED = counter("requests_cancelled_total", "Requests that the client gave up.", ROUTER)
REQUESTS_REFUSED = counter("requests_refused_total", "Requests turned away at once.", ROUTER, REASON)
REQUESTS_CLASSIFIED = counter(
    "requests_classified_total",
    "Requests by class, by how much of the prompt must be computed, and whether a higher class was declared.",
    ROUTER,
    PRIORITY,
    closed("size", ("cached", "short", "long")),
    closed("declared", ("same", "higher")),
)
REQUESTS_WITHIN_TARGETS = counter(
    "requests_within_targets_total",
    "Finished requests whose first token and mean time between tokens kept the class's promise: goodput.",
    ROUTER,
    PRIORITY,
)
REQUESTS_IN_FLIGHT = gauge("requests_in_flight", "Requests or sequences taken on and not ended.", ALL)
PLACEMENTS = counter(
    "placements_total", "Attempts to place a request, by route.", ROUTER, closed("route", ("remote", "local"))
)
COST_SOURCES = counter(
    "placements_by_cost_total",
    "Placements by whose timings the reader was judged: its own, its peers', or the documented default.",
    ROUTER,
    closed("source", ("own", "peers", "default")),
)
PREFIX_TICKETS = counter(
    "prefix_tickets_total",
    "Questions for pages that another worker has cached: granted, so few left that reading is quicker, or refused.",
    ROUTER,
    closed("outcome", ("granted", "less", "refused")),
)
DECISIONS_LOST = counter("decisions_lost_total", "Decisions that the decision log could not keep.", ROUTER | PLANNER)
RETRIES = counter("retries_total", "Placements after the first, by what ended the one before.", ROUTER, REASON)
CHOICES_MOVED = counter(
    "choices_moved_total",
    "Choices that left a worker that drains: with the pages of their tokens, or to be read again elsewhere.",
    ROUTER,
    closed("outcome", ("pages", "recomputed")),
)
PROMPTS_PASSED_ON = counter(
    "prompts_passed_on_total",
    "Prompts that left a prefill worker that drains for another one, before they were read.",
    ROUTER,
)
MOVE_GAP_SECONDS = histogram(
    "move_gap_seconds",
    "From a moved choice's last token on the worker it left to its first one elsewhere.",
    ROUTER,
    ITL_BUCKETS,
    closed("outcome", ("pages", "recomputed")),
)
CHOICES_FINISHED = counter(
    "choices_finished_total", "Choices that ended, by finish reason.", ROUTER, closed("reason", FinishReason)
)
DUPLICATE_TOKENS = counter(
    "duplicate_tokens_dropped_total",
    "Tokens whose index the client already had; the stream stays exactly once.",
    ROUTER,
)
SLOW_READERS = counter("slow_readers_total", "Streams cancelled because their buffer stayed full.", ROUTER)

TTFT_SECONDS = histogram(
    "time_to_first_token_seconds",
    "From received to the first token given to the client, told then, however the request ends.",
    ROUTER,
    TTFT_BUCKETS,
    PRIORITY,
)
ITL_SECONDS = histogram(
    "inter_token_seconds", "Between two tokens of one choice at the router.", ROUTER, ITL_BUCKETS, PRIORITY
)
E2E_SECONDS = histogram(
    "request_seconds", "From received to finished, for requests that ended well.", ROUTER, E2E_BUCKETS, PRIORITY
)
QUEUE_SECONDS = histogram("queue_seconds", "From queued to admitted at the router.", ROUTER, TTFT_BUCKETS, PRIORITY)
PREFILL_SECONDS = histogram(
    "prefill_seconds", "From admitted to first token: the leg that reads the prompt.", ROUTER, TTFT_BUCKETS
)
HANDOFF_SECONDS = histogram(
    "handoff_seconds",
    "From first token (index 0) to running on decode: what the hand-over costs.",
    ROUTER,
    TTFT_BUCKETS,
)
PROMPT_LENGTH = histogram("request_prompt_tokens", "Prompt lengths.", ROUTER, TOKEN_BUCKETS, unit="tokens")
OUTPUT_LENGTH = histogram(
    "request_output_tokens", "Output lengths of finished choices.", ROUTER, TOKEN_BUCKETS, unit="tokens"
)
