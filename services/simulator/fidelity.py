"""How far the simulator is off: requests of a live cluster, played again, stage by stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from services.simulator.lived import Lived, in_arrival_order, stages_of
from services.simulator.outcome import Served

STAGES = ("place", "wait", "read", "hand_over")


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """Of one stage: medians of what was, what was said, and of the difference, relative to what was."""

    stage: str
    count: int
    live_s: float
    said_s: float
    error: float


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
