"""Where a request goes. Pure: facts and a view of the fleet in, a decision with its losing candidates out.

A prompt stays on a decode worker when little of it is uncached there; otherwise the cheapest prefill worker reads it
for the cheapest decode worker. Costs are seconds; ties fall to the lower worker id, so a decision can be replayed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from common.core.ids import WorkerRef
from common.core.worker import Role
from services.router.classify import Facts
from services.router.view import FleetView, WorkerView

POLICY_NAME = "stay-if-short"
AVOID_S = 3600.0
"""Chosen: more than any real cost, so that a worker which failed the request is a last resort and still a resort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """Coefficients of a first cost model; derived from the demo model on two CPU cores. Only their ratios matter."""

    local_prompt_tokens: int = 128
    slow_start_s: float = 10.0
    slow_start_penalty_s: float = 0.5
    prefill_token_s: float = 2e-4
    extend_token_s: float = 4e-4
    transfer_page_s: float = 5e-5
    hand_over_s: float = 5e-3
    sequence_s: float = 5e-3
    full_s: float = 0.5
    """Cost of a nearly full pool: fewer pages mean preemption. Scaled by the square of the share in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`prefill` None: decode reads the prompt itself."""

    decode: WorkerRef
    prefill: WorkerRef | None = None

    def __str__(self) -> str:
        return f"{self.prefill.worker}>{self.decode.worker}" if self.prefill else f"local:{self.decode.worker}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A route that was weighed. The terms sum to the cost."""

    route: Route
    terms: Mapping[str, float]

    @property
    def cost_s(self) -> float:
        return sum(self.terms.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The chosen route, and every candidate in the order in which it was weighed."""

    route: Route
    candidates: tuple[Candidate, ...]


def choose(facts: Facts, view: FleetView, settings: PolicySettings) -> Decision | None:
    """The route of one attempt, or None when no decode worker can take it now."""
    decodes = [worker for worker in view.eligible(Role.DECODE) if can_take(worker, facts)]
    if not decodes:
        return None
    prefills = _prefills(view)
    decode = min(decodes, key=_ranked(lambda worker: _decode_terms(worker, decodes, facts, settings)))
    locals_ = [_local(worker, decodes, facts, settings) for worker in decodes]
    remotes = [_remote(prefill, decode, prefills, decodes, facts, settings) for prefill in prefills]
    stays = [option for option in locals_ if _is_short(option.route.decode, facts, settings)]
    if not stays and not remotes and view.eligible(Role.PREFILL):
        return None  # Prefill is full for a moment: waiting is kinder than a long prompt amid running answers.
    best = _cheapest(stays or remotes or locals_)
    if facts.avoid.intersection((best.route.decode, best.route.prefill)):
        best = _cheapest([*locals_, *remotes])
    return Decision(route=best.route, candidates=(*locals_, *remotes))


def choose_prefill(facts: Facts, view: FleetView, settings: PolicySettings) -> WorkerRef | None:
    """Another prefill worker for a promise that stands. None: no eligible one that has not failed this request."""
    prefills = [worker for worker in _prefills(view) if worker.worker not in facts.avoid]
    if not prefills:
        return None
    return min(prefills, key=_ranked(lambda worker: _prefill_terms(worker, prefills, facts, settings))).worker


def can_take(worker: WorkerView, facts: Facts) -> bool:
    """Whether a decode worker would promise the pages now, as far as this router can tell."""
    return worker.has_room and worker.available_pages >= facts.num_pages


def _prefills(view: FleetView) -> list[WorkerView]:
    return [worker for worker in view.eligible(Role.PREFILL) if worker.has_room]


def _is_short(decode: WorkerRef, facts: Facts, settings: PolicySettings) -> bool:
    return facts.uncached_tokens(decode.worker) <= settings.local_prompt_tokens


def _local(decode: WorkerView, peers: list[WorkerView], facts: Facts, settings: PolicySettings) -> Candidate:
    uncached = facts.uncached_tokens(decode.worker.worker)
    terms = {
        "backlog": decode.backlog_tokens * settings.extend_token_s,
        "extend": uncached * settings.extend_token_s,
        **_decode_terms(decode, peers, facts, settings),
        "transfer": 0.0,
    }
    return Candidate(route=Route(decode=decode.worker), terms=terms)


def _remote(
    prefill: WorkerView,
    decode: WorkerView,
    prefills: list[WorkerView],
    decodes: list[WorkerView],
    facts: Facts,
    settings: PolicySettings,
) -> Candidate:
    terms = {
        **_prefill_terms(prefill, prefills, facts, settings),
        **_decode_terms(decode, decodes, facts, settings),
        "hand_over": settings.hand_over_s,
    }
    return Candidate(route=Route(decode=decode.worker, prefill=prefill.worker), terms=terms)


def _prefill_terms(
    worker: WorkerView, peers: list[WorkerView], facts: Facts, settings: PolicySettings
) -> dict[str, float]:
    return {
        "backlog": worker.backlog_tokens * settings.prefill_token_s,
        "prefill": facts.uncached_tokens(worker.worker.worker) * settings.prefill_token_s,
        "prefill_young": _young_s(worker, peers, settings),
        "prefill_avoid": AVOID_S if worker.worker in facts.avoid else 0.0,
    }


def _decode_terms(
    worker: WorkerView, peers: list[WorkerView], facts: Facts, settings: PolicySettings
) -> dict[str, float]:
    held_pages = facts.cached_tokens(worker.worker.worker) // facts.page_size
    used = 1.0 - worker.available_pages / max(worker.load.pages.total, 1)
    return {
        "transfer": (facts.num_pages - held_pages) * settings.transfer_page_s,
        "sequences": worker.num_sequences * settings.sequence_s,
        "full": used * used * settings.full_s,
        "young": _young_s(worker, peers, settings),
        "avoid": AVOID_S if worker.worker in facts.avoid else 0.0,
    }


def _young_s(worker: WorkerView, peers: list[WorkerView], settings: PolicySettings) -> float:
    """Slow start: a worker that joins late is ramped up. Relative to its peers, or a fresh cluster would punish all."""
    oldest = max(peer.age_s for peer in peers)
    ramp_s = min(settings.slow_start_s, oldest)
    share = 1.0 if ramp_s <= 0 else min(worker.age_s / ramp_s, 1.0)
    return (1.0 - share) * settings.slow_start_penalty_s


def _ranked(terms: Callable[[WorkerView], Mapping[str, float]]) -> Callable[[WorkerView], tuple[float, str, int]]:
    def rank(worker: WorkerView) -> tuple[float, str, int]:
        return sum(terms(worker).values()), worker.worker.worker, worker.worker.epoch

    return rank


def _cheapest(candidates: list[Candidate]) -> Candidate:
    def rank(candidate: Candidate) -> tuple[float, str, str]:
        route = candidate.route
        return candidate.cost_s, route.decode.worker, route.prefill.worker if route.prefill else ""

    return min(candidates, key=rank)
