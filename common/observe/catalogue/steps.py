"""The step loop: time, size, cost model, and what left it early."""

from common.core.cost.meter import CostStage
from common.observe.catalogue.vocabulary import (
    ALL,
    ROW_BUCKETS,
    STEP_BUCKETS,
    TOKEN_BUCKETS,
    WORKERS,
    counter,
    gauge,
    histogram,
)
from common.observe.metric import closed

STEP_SECONDS = histogram("step_seconds", "One forward, from plan to tokens.", WORKERS, STEP_BUCKETS)
COST_STEPS = gauge("cost_model_steps", "Steps that this worker's cost model was fitted to; 0: the default.", WORKERS)
COST_AGE = gauge("cost_model_age_seconds", "Since the last step that it learnt from.", WORKERS, unit="seconds")
COST_ERROR = gauge(
    "cost_model_error_ratio",
    "Recent mean of |predicted - measured| / measured, predicted before it was learnt from.",
    WORKERS,
    closed("stage", CostStage),
    unit="ratio",
)
STEP_ROWS = histogram("step_rows", "Rows of one step: the batch size.", WORKERS, ROW_BUCKETS, unit="rows")
STEP_TOKENS = histogram("step_tokens", "Tokens of one step.", WORKERS, TOKEN_BUCKETS, unit="tokens")
PREEMPTIONS = counter("preemptions_total", "Sequences sent back to be recomputed because pages ran out.", WORKERS)
ABORTS = counter("aborts_total", "Sequences removed before they finished.", WORKERS)
KEPT_SEQUENCES = counter(
    "kept_sequences_total", "Sequences whose pages were kept here for another worker to fetch.", WORKERS
)
DRAIN_CUTS = counter("drain_cuts_total", "Works that were left, and given up, when a drain's time was over.", ALL)
DRAINING = gauge("draining", "1 while this process refuses new work and waits for what it has.", ALL)
POISONED = counter("poisoned_rows_total", "Rows that drew no token: NaN or an impossible id.", WORKERS)
