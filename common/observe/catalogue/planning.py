"""Scaling: what the planner wants, and what it knows."""

from common.observe.catalogue.vocabulary import PLANNER, TARGET, counter, gauge
from common.observe.metric import closed

PLANNER_DESIRED = gauge(
    "planner_desired_replicas",
    "Workers that there should be, by role: what autoscalers read. Absent before the first decision.",
    PLANNER,
    TARGET,
)
PLANNER_LIMIT = gauge("planner_max_replicas", "Workers that the planner may want at most, by role.", PLANNER, TARGET)
PLANNER_WORKERS = gauge(
    "planner_workers",
    "Workers that the planner sees, by role and whether they take work.",
    PLANNER,
    TARGET,
    closed("state", ("ready", "starting", "draining")),
)
PLANNER_LOAD = gauge(
    "planner_load_ratio",
    "Of what the ready workers can do, how much is asked now: seconds of reading, or places on decode.",
    PLANNER,
    TARGET,
    unit="ratio",
)
PLANNER_BLIND = gauge(
    "planner_blind", "1 while a signal is missing: nothing is scaled down. Alert on this one.", PLANNER
)
PLANNER_CHANGES = counter(
    "planner_changes_total", "Changes of what is wanted.", PLANNER, TARGET, closed("direction", ("up", "down"))
)
PLANNER_PATCHES = counter(
    "planner_patches_total",
    "Scales that the planner set itself, by how that went.",
    PLANNER,
    closed("outcome", ("done", "refused", "failed")),
)
PLANNER_LEADS = gauge("planner_leads", "1 while this planner holds the Lease and so may set scales.", PLANNER)
SCALER_QUESTIONS = counter(
    "scaler_questions_total",
    "Questions of autoscalers, by the way they came and whether there was an answer.",
    PLANNER,
    closed("way", ("keda", "metrics_api")),
    closed("answer", ("value", "unknown")),
)
