"""A request as a live cluster served it, and the same requests played again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.config.config import Config
from services.router.policy import PolicySettings, Routes
from services.router.policy.configured import policy_settings
from services.simulator.calibration import Calibration
from services.simulator.outcome import Served
from services.simulator.playing import Play
from services.simulator.policies import PolicyName, make_policy
from services.simulator.recorded import Recorded
from services.simulator.saturation import PATIENT
from services.simulator.trace import TraceRequest, in_order


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """Times in seconds; `stages` by name, None: the request did not pass through it. It was allowed as many tokens as
    it got."""

    arrived_s: float
    prompt_tokens: int
    output_tokens: int
    is_remote: bool
    ttft_s: float
    itl_s: float | None
    stages: dict[str, float | None]


def stages_of(served: Served) -> dict[str, float | None]:
    """From arrival until it is in the reader's queue; until its first step; until the first token; until the first step
    where the answer is written."""
    return {
        "place": _between(served.arrived, served.queued),
        "wait": _between(served.queued, served.read_from),
        "read": _between(served.read_from, served.first_token),
        "hand_over": _between(served.first_token, served.running) if served.is_remote else None,
    }


def settings_of(config: Config) -> PolicySettings:
    """What the live routers were told."""
    return policy_settings(config)


def in_arrival_order(lived: Sequence[Lived]) -> list[Lived]:
    """As the simulator plays them."""
    return sorted(lived, key=lambda each: each.arrived_s)


def replay(
    lived: Sequence[Lived], calibration: Calibration, settings: PolicySettings, *, as_routed: bool = False
) -> list[Served]:
    """The same requests at the same times, in order of arrival, in the simulated cluster. `as_routed`: read where they
    were read, by decode or by prefill; else the policy decides anew."""
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
    kinds = {
        is_remote: make_policy(
            PolicyName.COST_MODEL, replace(settings, routes=Routes.REMOTE if is_remote else Routes.LOCAL)
        )
        for is_remote in (True, False)
    }
    recorded = [
        Recorded(max_tokens=each.output_tokens, policy=kinds[each.is_remote] if as_routed else None) for each in ordered
    ]
    policy = make_policy(PolicyName.COST_MODEL, settings)
    trace = in_order("live", size, requests)
    return Play("live", policy, trace, calibration.shape(), limits=PATIENT, recorded=recorded).run().served


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start
