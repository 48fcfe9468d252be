"""A question to the simulator: which trace, on which machines, under which policies and seeds. And its answer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from common.config.config import Config
from services.router.admission.limits import AdmissionLimits
from services.router.policy import PolicySettings
from services.simulator.arrivals import spread
from services.simulator.ceiling import hit_ceiling
from services.simulator.cluster import ClusterShape
from services.simulator.outcome import Outcome
from services.simulator.playing import Play
from services.simulator.policies import PolicyName, make_policy
from services.simulator.report import Slo, Summary, summarize
from services.simulator.routing import RoutingReplay
from services.simulator.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """`speed`: how many times as fast as recorded requests arrive. Every policy sees the same arrivals of a seed."""

    trace: Trace
    shape: ClusterShape
    policies: tuple[PolicyName, ...]
    seeds: tuple[int, ...] = (0,)
    speed: float = 1.0
    max_requests: int | None = None
    slo: Slo = field(default_factory=Slo)
    hint_delay_s: float = 0.0
    is_routing_only: bool = False
    settings: PolicySettings = field(default_factory=PolicySettings)


def run_study(study: Study, *, note: Callable[[Outcome, int], None] | None = None) -> Iterator[Summary]:
    """One summary per seed and policy, as they come; `note` gets each whole outcome before it is forgotten."""
    for seed in study.seeds:
        trace = spread(study.trace, seed=seed, speed=study.speed, max_requests=study.max_requests)
        shape = study.shape
        ceiling = hit_ceiling(trace, shape.cache_tokens * len(shape.roles()))
        for name in study.policies:
            outcome = _replay(study, trace, name, seed)
            if note is not None:
                note(outcome, seed)
            yield summarize(outcome, seed=seed, slo=study.slo, hit_ceiling=ceiling, span_s=trace.span_s)


def settings_for(shape: ClusterShape, settings: PolicySettings) -> PolicySettings:
    """What the policy is told of the workers' limits is what they are here, as in a cluster with one configuration."""
    return replace(
        settings,
        prefill_chunk_tokens=shape.chunk_tokens,
        extend_tokens=shape.extend_tokens,
        idle_extend_tokens=shape.chunk_tokens,
        extend_itl_s=shape.itl_budget_s,
    )


def _replay(study: Study, trace: Trace, name: PolicyName, seed: int) -> Outcome:
    policy = make_policy(name, settings_for(study.shape, study.settings))
    if not study.is_routing_only:
        limits = AdmissionLimits.of(Config())
        return Play(name, policy, trace, study.shape, limits=limits, seed=seed, hint_delay_s=study.hint_delay_s).run()
    return RoutingReplay(name, policy, trace, study.shape, hint_delay_s=study.hint_delay_s).run()
