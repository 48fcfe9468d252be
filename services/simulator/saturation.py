"""How much a cluster can do: what it finishes per second when everything is asked at once."""

from dataclasses import replace
from pathlib import Path

from common.core.request import Priority
from services.router.admission.limits import AdmissionLimits, ClassLimits
from services.router.policy import PolicySettings
from services.simulator.cluster import ClusterShape
from services.simulator.playing import Play
from services.simulator.policies import PolicyName, make_policy
from services.simulator.trace import Trace, unreadable

SAMPLE = 3000
"""Chosen: requests that are asked; enough to fill every batch for most of the time."""

ENDLESS = 1 << 40
PATIENT = AdmissionLimits(
    classes={priority: ClassLimits(max_queue=ENDLESS, max_tokens=ENDLESS) for priority in Priority}, max_active=ENDLESS
)
"""Nobody is turned away, however long the line."""

PATIENCE = 4.0
"""Chosen: in so many times as a single worker needs for everything, whoever can have a place has had one, what is read
a second time included. Who fits a worker and is refused by each would be tried for ever."""


def saturation(trace: Trace, shape: ClusterShape, settings: PolicySettings, *, name: PolicyName) -> float:
    """Requests per second, between the first and the last tenth of those that finish."""
    asked = trace.requests[:SAMPLE]
    burst = replace(trace, requests=tuple(replace(each, arrived_s=index * 1e-6) for index, each in enumerate(asked)))
    patience_s = PATIENCE * one_by_one_s(burst, shape)
    outcome = Play(name, make_policy(name, settings), burst, shape, limits=PATIENT, patience_s=patience_s).run()
    ends = sorted(served.finished for served in outcome.served if served.finished is not None)
    first, last = len(ends) // 10, len(ends) * 9 // 10
    return (last - first) / max(ends[last] - ends[first], 1e-9) if ends else 0.0


def one_by_one_s(trace: Trace, shape: ClusterShape) -> float:
    """How long one worker takes for all requests, each alone."""
    seconds = 0.0
    for each in trace.requests:
        seconds += shape.reading_cost.prefill_seconds(each.prompt_tokens, 0, chunk_tokens=shape.chunk_tokens)
        seconds += each.output_tokens * shape.cost.decode_step_seconds(1, each.prompt_tokens + each.output_tokens)
    return seconds


def speed_for(load: float, trace: Trace, shape: ClusterShape, settings: PolicySettings | None = None) -> float:
    """How many times as fast as recorded requests must arrive for this share of what the better of reading locally and
    reading remotely can do. Raises InvalidRequest where the trace has no pace, or nobody can be served."""
    if not trace.span_s:
        raise unreadable(Path(trace.name), 0, "all its requests came at once: a load has no pace to set")
    names = [PolicyName.ALWAYS_LOCAL] + [PolicyName.ALWAYS_REMOTE] * shape.can_part
    most = max(saturation(trace, shape, settings or PolicySettings(), name=name) for name in names)
    if not most:
        raise unreadable(Path(trace.name), 0, "too few of its requests fit into these workers to tell their full load")
    return load * most * trace.span_s / len(trace.requests)
