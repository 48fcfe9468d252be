"""Who waits, where and for whom: what autoscaling reads."""

from common.core.queue import Cause
from common.observe.catalogue.vocabulary import PREFILL, PRIORITY, ROUTER, TARGET, WORKERS, gauge
from common.observe.metric import closed

QUEUE_REQUESTS = gauge(
    "queue_requests", "Requests waiting, by the role they wait for and their class.", ROUTER, TARGET, PRIORITY
)
QUEUE_TOKENS = gauge(
    "queue_tokens", "Uncached prompt tokens waiting, by role and class.", ROUTER, TARGET, PRIORITY, unit="tokens"
)
QUEUE_OLDEST_SECONDS = gauge(
    "queue_oldest_seconds",
    "Age of the oldest request that waits, by role and class; 0: nobody waits.",
    ROUTER,
    TARGET,
    PRIORITY,
    unit="seconds",
)
QUEUE_DRAIN_SECONDS = gauge(
    "queue_drain_seconds",
    "Predicted time until those who wait now are let in, by role and class. Absent, never 0, while it is not known.",
    ROUTER,
    TARGET,
    PRIORITY,
    unit="seconds",
)
QUEUE_BLOCKED = gauge(
    "queue_blocked",
    "1 for the cause for which the first in line waits, 0 for the others.",
    ROUTER,
    closed("cause", Cause),
)
DECODE_ADMISSION_SECONDS = gauge(
    "decode_admission_seconds",
    "How long those who got a place on decode lately had waited for it. Absent while nobody did.",
    ROUTER,
    unit="seconds",
)
PLACES = gauge(
    "places",
    "Requests the fleet is known to have places for, by class. Absent before it was ever full.",
    ROUTER,
    PRIORITY,
)
TENANTS = gauge("tenants", "Tenants whose use is kept track of.", ROUTER)
ROUTERS = gauge("routers", "Live routers, by which the limits of tenants are divided.", ROUTER)
OUTSTANDING_EXPORTS = gauge("outstanding_exports", "Prompts read whose pages have not all left.", PREFILL)
WAITING_REQUESTS = gauge("waiting_requests", "Requests accepted by this worker and not yet computing.", WORKERS)
WAITING_TOKENS = gauge("waiting_tokens", "Prompt tokens this worker still has to compute.", WORKERS, unit="tokens")
RUNNING_SEQUENCES = gauge("running_sequences", "Sequences in the running batch.", WORKERS)
SUBSCRIPTIONS = gauge("subscriptions", "Routers that listen to this worker's events.", WORKERS)
