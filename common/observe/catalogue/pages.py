"""Pages, the prefix cache, and where the KV of prompts came from."""

from common.observe.catalogue.vocabulary import ALL, DECODE, WORKERS, counter, gauge
from common.observe.metric import closed

PAGES = gauge(
    "pages",
    "KV pages by state; the four states sum to all pages.",
    WORKERS,
    closed("state", ("free", "promised", "referenced", "cached")),
)
PAGE_FRAGMENTATION = gauge(
    "page_fragmentation_ratio", "Share of slots in referenced pages that hold no token.", WORKERS, unit="ratio"
)
KV_USAGE = gauge(
    "kv_usage_ratio", "Share of pages promised or referenced: cached pages can be taken back.", WORKERS, unit="ratio"
)
PREFIX_HITS = counter("prefix_hits_total", "Prompt pages found in the prefix cache.", WORKERS)
PREFIX_MISSES = counter("prefix_misses_total", "Full prompt pages looked up and not found.", WORKERS)
PREFIX_FETCHED = counter("prefix_fetched_pages_total", "Cached pages that came from other workers.", WORKERS)
PREFIX_FETCHES = counter(
    "prefix_fetches_total",
    "Fetches of another worker's cached pages: all came, some, or none; what did not come was read.",
    WORKERS,
    closed("outcome", ("whole", "part", "void")),
)
PREFIX_EVICTIONS = counter("prefix_evictions_total", "Cached pages given up for new ones.", WORKERS)
PROMPT_TOKENS = counter(
    "prompt_tokens_total",
    "Prompt tokens by where their KV came from; extended are those a decode worker computed on purpose.",
    WORKERS,
    closed("source", ("computed", "cached", "received", "extended")),
)
GENERATED_TOKENS = counter("generated_tokens_total", "Tokens sampled.", ALL)
RESERVATIONS = gauge("reservations", "Promises that decode holds open.", DECODE)
RESERVATIONS_ENDED = counter(
    "reservations_ended_total",
    "Promises by how they ended.",
    DECODE,
    closed("outcome", ("filled", "released", "expired")),
)
