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


def saturation(trace: Trace, shape: ClusterShape, settings: PolicySettings, *, name: PolicyName) -> float:
    """Requests per second, between the first and the last tenth of those that finish."""
    asked = trace.requests[:SAMPLE]
    burst = replace(trace, requests=tuple(replace(each, arrived_s=index * 1e-6) for index, each in enumerate(asked)))
    outcome = Play(name, make_policy(name, settings), burst, shape, limits=PATIENT, patience_s=1e9).run()
    ends = sorted(served.finished for served in outcome.served if served.finished is not None)
    first, last = len(ends) // 10, len(ends) * 9 // 10
    return (last - first) / max(ends[last] - ends[first], 1e-9) if ends else 0.0


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
