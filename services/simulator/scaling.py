"""The question of how many workers: a trace, machines, and autoscalers side by side. And its answer."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from common.config.config import Config
from common.core.cost.model import CostModel
from services.planner.settings import Bounds, PlannerSettings
from services.planner.signals import Watch
from services.router.admission.limits import AdmissionLimits
from services.router.policy import PolicySettings
from services.simulator.bursts import find_bursts, turns_per_burst
from services.simulator.cluster import ClusterShape
from services.simulator.policies import PolicyName, make_policy
from services.simulator.report import Slo
from services.simulator.scalers import ChartQueue, Depth, Followed, Joint, Look, Pair, Static
from services.simulator.scaling_play import Moment, Replicas, ScaledPlay, Scaler
from services.simulator.study import settings_for
from services.simulator.trace import Trace

T = TypeVar("T")

MODEL_32B = CostModel(
    step_s=9.6e-3,
    extend_token_s=1.6e-4,
    extend_pair_s=3.3e-9,
    decode_row_s=1.6e-4,
    decode_context_s=4e-8,
    transfer_s=2e-3,
    transfer_byte_s=2e-11,
    num_steps=1_000_000,
)
"""Derived: 32 billion 8-bit parameters on one accelerator of 3.35 TB/s and 400 TFLOP/s reached, 64 layers of 5120 with
8 KV heads in 8 bits (128 KiB a token): large enough that both traces need several workers."""

CACHE_TOKENS = 330_000
"""Derived: what 80 GB leave beside 32 GB of parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingStudy:
    """`most` workers of each role may run; `start_s` until one is ready. Each of these is a contender, and all see the
    same arrivals: `depths`, targets of queue-depth HPAs in requests that wait per replica; `chart_factors`, on the
    targets of the chart's own HPAs; `miss_shares` of the planner, which sets scales itself; `followed_shares`, of the
    planner whose wishes HPAs carry out."""

    trace: Trace
    most: Replicas = field(default_factory=lambda: Replicas(prefill=16, decode=8))
    start_s: float = 60.0
    slo: Slo = field(default_factory=lambda: Slo(ttft_s=5.0, itl_s=0.1))
    depths: tuple[float, ...] = (1.0, 2.0, 5.0)
    chart_factors: tuple[float, ...] = ()
    miss_shares: tuple[float, ...] = (0.1,)
    followed_shares: tuple[float, ...] = ()
    static: Replicas | None = None
    planner: PlannerSettings = field(default_factory=PlannerSettings)
    policy: PolicyName = PolicyName.COST_MODEL
    cost: CostModel = MODEL_32B

    @property
    def shape(self) -> ClusterShape:
        return ClusterShape(
            prefill=self.most.prefill, decode=self.most.decode, cost=self.cost, cache_tokens=CACHE_TOKENS
        )

    def contenders(self) -> Mapping[str, Scaler]:
        """By name. The peak is what the largest fleet has, if nobody says better."""
        static = self.static or self.most
        looks: dict[str, Look] = {f"HPAs, {target:g} waiting": Depth(target=target) for target in self.depths}
        looks |= {f"HPAs, chart x {factor:g}": ChartQueue(factor=factor) for factor in self.chart_factors}
        found: dict[str, Scaler] = {f"static {static.prefill}P {static.decode}D": Static(replicas=static)}
        found |= {name: Pair.of(look, self.most) for name, look in looks.items()}
        found |= {f"planner, {share:.0%} late": self._joint(share) for share in self.miss_shares}
        for share in self.followed_shares:
            found[f"planner and HPAs, {share:.0%} late"] = Followed.of(self._joint(share), self.most)
        return found

    def _joint(self, miss_share: float) -> Joint:
        settings = replace(planner_settings(self), miss_share=miss_share)
        return Joint(settings=settings, watch=Watch(start_s=self.start_s))


def planner_settings(study: ScalingStudy) -> PlannerSettings:
    """What the planner is told: the study's bounds and objectives."""
    given = study.planner
    return PlannerSettings(
        prefill=Bounds(least=1, most=study.most.prefill),
        decode=Bounds(least=1, most=study.most.decode),
        interval_s=given.interval_s,
        window_s=given.window_s,
        lead_s=study.start_s,
        hold_s=given.hold_s,
        ttft_s=study.slo.ttft_s,
        itl_s=study.slo.itl_s,
        step_tokens=study.shape.step_tokens,
        chunk_tokens=study.shape.chunk_tokens,
        load_target=given.load_target,
        hpa_tolerance=given.hpa_tolerance,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSummary:
    """One contender. `turns`: the most changes of direction in one burst, over both roles."""

    name: str
    worker_hours: float
    met_share: float
    missed: int
    num_requests: int
    ttft_s_p99: float | None
    turns: int
    most_wanted: Replicas
    moments: tuple[Moment, ...]


def run_scaling(study: ScalingStudy) -> Iterator[ScalingSummary]:
    """One summary per contender, as they come."""
    for name, scaler in study.contenders().items():
        yield run_one(study, name, scaler)


def run_one(study: ScalingStudy, name: str, scaler: Scaler) -> ScalingSummary:
    """One contender. A scaler remembers: each play needs its own."""
    first = scaler.replicas if isinstance(scaler, Static) else Replicas(prefill=1, decode=1)
    play = ScaledPlay(
        name,
        make_policy(study.policy, settings_for(study.shape, PolicySettings())),
        study.trace,
        study.shape,
        limits=AdmissionLimits.of(Config()),
        scaler=scaler,
        first=first,
        start_s=study.start_s,
    )
    outcome = play.run()
    met = sum(map(study.slo.is_met, outcome.served))
    ttfts = sorted(each.ttft_s for each in outcome.served if each.ttft_s is not None)
    bursts = find_bursts([each.arrived_s for each in study.trace.requests])
    turns = [
        max(turns_per_burst(bursts, [(moment.at, pick(moment.wanted)) for moment in play.moments]), default=0)
        for pick in (_prefill, _decode)
    ]
    return ScalingSummary(
        name=name,
        worker_hours=play.worker_hours,
        met_share=met / len(outcome.served),
        missed=len(outcome.served) - met,
        num_requests=len(outcome.served),
        ttft_s_p99=ttfts[math.ceil(0.99 * len(ttfts)) - 1] if ttfts else None,
        turns=max(turns),
        most_wanted=Replicas(
            prefill=max(moment.wanted.prefill for moment in play.moments),
            decode=max(moment.wanted.decode for moment in play.moments),
        ),
        moments=tuple(play.moments),
    )


def _prefill(replicas: Replicas) -> int:
    return replicas.prefill


def _decode(replicas: Replicas) -> int:
    return replicas.decode
