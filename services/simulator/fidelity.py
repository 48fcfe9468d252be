"""How far the simulator is off: requests of a live cluster, played again, stage by stage."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from common.config.config import Config
from services.router.policy import PolicySettings
from services.router.policy.configured import policy_settings
from services.simulator.calibration import Calibration
from services.simulator.outcome import Served
from services.simulator.playing import Play
from services.simulator.policies import PolicyName, make_policy
from services.simulator.saturation import PATIENT
from services.simulator.trace import TraceRequest, in_order


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """One request as a live cluster served it. Stages in seconds; None: the request did not pass through it."""

    arrived_s: float
    prompt_tokens: int
    output_tokens: int
    is_remote: bool
    ttft_s: float
    itl_s: float | None
    stages: dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """Of one stage: medians of what was, what was said, and of the difference, relative to what was."""

    stage: str
    count: int
    live_s: float
    said_s: float
    error: float


Seconds = float | None
HOPS = 2
"""To the decode worker and back to the router, or to the decode worker and on to the prefill worker."""

STAGES = ("place", "wait", "read", "hand_over")


def stages_of(served: Served) -> dict[str, float | None]:
    """From arrival to admission and the reader's queue; until its first step; until the first token; until the first
    step where the answer is written."""
    return {
        "place": _between(served.arrived, served.queued),
        "wait": _between(served.queued, served.read_from),
        "read": _between(served.read_from, served.first_token),
        "hand_over": _between(served.first_token, served.running) if served.is_remote else None,
    }


def settings_of(config: Config) -> PolicySettings:
    """What the live routers were told."""
    return policy_settings(config)


def replay(lived: Sequence[Lived], calibration: Calibration, settings: PolicySettings) -> list[Served]:
    """The same requests at the same times, in order of arrival, in the simulated cluster."""
    ordered = in_arrival_order(lived)
    size, first = calibration.page_size, 0
    requests = []
    for each in ordered:
        pages = each.prompt_tokens // size
        requests.append(
            TraceRequest(
                arrived_s=each.arrived_s,
                prompt_tokens=each.prompt_tokens,
                output_tokens=each.output_tokens,
                pages=tuple(range(first, first + pages)),
            )
        )
        first += pages
    trace = in_order("live", size, requests)
    policy = make_policy(PolicyName.COST_MODEL, settings)
    return Play("live", policy, trace, calibration.shape(), limits=PATIENT).run().served


def fit_overheads(lived: Sequence[Lived], calibration: Calibration, settings: PolicySettings) -> Calibration:
    """What the workers' own step timings do not explain of these requests, as medians: first between two steps, then
    between two processes, then from reader to writer."""
    bare = replace(calibration, hop_s=0.0, turn_s=0.0, decode=replace(calibration.decode, transfer_s=0.0))

    def rest(fitted: Calibration, live: Callable[[Lived], Seconds], said: Callable[[Served], Seconds]) -> list[float]:
        pairs = zip(in_arrival_order(lived), replay(lived, fitted, settings), strict=True)
        both = [(live(one), said(other)) for one, other in pairs]
        return [one - other for one, other in both if one is not None and other is not None]

    steady = rest(bare, lambda one: None if one.is_remote else one.itl_s, lambda other: other.itl_s)
    turned = replace(bare, turn_s=_middle(steady or rest(bare, lambda one: one.itl_s, lambda other: other.itl_s)))
    placed = rest(turned, lambda one: None if one.is_remote else one.ttft_s, _local_ttft_s)
    placed += rest(turned, lambda one: one.stages["place"], lambda other: stages_of(other)["place"])
    hopped = replace(turned, hop_s=_middle(placed) / HOPS)
    handed = rest(hopped, lambda one: one.stages["hand_over"], lambda other: stages_of(other)["hand_over"])
    return replace(hopped, decode=replace(hopped.decode, transfer_s=_middle(handed)))


def _local_ttft_s(served: Served) -> Seconds:
    return None if served.is_remote else served.ttft_s


def _middle(rests: Sequence[float]) -> float:
    """No overhead is negative: then the steps were thought too slow, and only the check can tell."""
    return max(0.0, median(rests)) if rests else 0.0


def in_arrival_order(lived: Sequence[Lived]) -> list[Lived]:
    """As the simulator plays them."""
    return sorted(lived, key=lambda each: each.arrived_s)


def compare(lived: Sequence[Lived], said: Sequence[Served]) -> tuple[Error, ...]:
    """Time to first token, time between tokens, and every stage. Requests are paired; a stage counts where both passed
    through it."""
    ordered = in_arrival_order(lived)
    pairs = list(zip(ordered, said, strict=True))
    found = [
        _error("ttft", [(live.ttft_s, served.ttft_s) for live, served in pairs]),
        _error("itl", [(live.itl_s, served.itl_s) for live, served in pairs]),
    ]
    found += [
        _error(stage, [(live.stages.get(stage), stages_of(served)[stage]) for live, served in pairs])
        for stage in STAGES
    ]
    same = sum(live.is_remote is served.is_remote for live, served in pairs)
    share = same / max(len(pairs), 1)
    routes = Error(stage="same route", count=len(pairs), live_s=1.0, said_s=share, error=1.0 - share)
    return (*[each for each in found if each is not None], routes)


def _error(stage: str, pairs: Sequence[tuple[float | None, float | None]]) -> Error | None:
    both = [(live, said) for live, said in pairs if live is not None and said is not None and live > 0]
    if not both:
        return None
    return Error(
        stage=stage,
        count=len(both),
        live_s=median(live for live, _ in both),
        said_s=median(said for _, said in both),
        error=median(abs(said - live) / live for live, said in both),
    )


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start
