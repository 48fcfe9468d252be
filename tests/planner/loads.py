"""Loads by hand, and a planner walked through a list of them on a clock of its own."""

from collections.abc import Iterable, Iterator

from common.core.cost.model import CostModel
from common.core.queue import Cause
from services.planner.decide import Recommendation, State, decide
from services.planner.load import Crew, Load, Reading, Signals, Writing
from services.planner.settings import PlannerSettings

COST = CostModel(
    step_s=0.0,
    extend_token_s=1e-3,
    extend_pair_s=0.0,
    decode_row_s=0.01,
    decode_context_s=0.0,
    transfer_s=0.0,
    transfer_byte_s=0.0,
    num_steps=1000,
)
"""A thousand tokens are a second of reading; ten sequences are a step of 0.1 s."""

SETTINGS = PlannerSettings(
    interval_s=1.0,
    miss_share=0.01,
    window_s=120.0,
    hold_s=30.0,
    idle_s=60.0,
    load_target=0.85,
    hpa_tolerance=0.0,
)


def load(
    *,
    read_s: float = 0.0,
    backlog_s: float = 0.0,
    sequences: int = 0,
    queued: int = 0,
    admission_s: float | None = None,
    causes: frozenset[Cause] = frozenset(),
    prefill: Crew | None = None,
    decode: Crew | None = None,
    cost: CostModel | None = COST,
    pages_used: int = 0,
    pages_each: int = 0,
    places_each: int = 0,
    local_s: float = 0.0,
) -> Load:
    """`read_s`: seconds of reading done per second on prefill, `local_s`: on decode; `backlog_s`: what waits of it."""
    return Load(
        reading=Reading(
            crew=prefill or Crew(ready=1),
            backlog_tokens=round(backlog_s * 1000),
            read_tokens_s=read_s * 1000,
            local_read_tokens_s=local_s * 1000,
            tokens_each=100.0 if backlog_s else None,
            cost=cost,
            causes=causes,
        ),
        writing=Writing(
            crew=decode or Crew(ready=1),
            sequences=sequences,
            running=sequences - queued,
            queued=queued,
            admission_s=admission_s,
            causes=causes,
            cost=cost,
            pages_used=pages_used,
            pages_each=pages_each,
            places_each=places_each,
        ),
    )


def walk(
    loads: Iterable[Load | None], settings: PlannerSettings = SETTINGS, state: State | None = None
) -> Iterator[Recommendation]:
    """A recommendation per load, one interval apart."""
    state = state or State()
    for index, each in enumerate(loads):
        found = decide(Signals(at=1000.0 + index * settings.interval_s, load=each), state, settings)
        state = found.state
        yield found


def wanted(recommendations: Iterable[Recommendation]) -> list[tuple[int, int]]:
    """(prefill, decode) after each look."""
    return [
        (each.prefill.desired, each.decode.desired)
        for each in recommendations
        if each.prefill is not None and each.decode is not None
    ]
