"""What the policy answers: routes, what each would cost, and which one it is."""

from collections.abc import Mapping
from dataclasses import dataclass

from common.core.ids import WorkerRef
from services.router.classify import Facts
from services.router.policy.pricing import CostSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`prefill` None: decode reads the prompt itself. `source`: whose cached pages the reader fetches first."""

    decode: WorkerRef
    prefill: WorkerRef | None = None
    source: WorkerRef | None = None

    @property
    def reader(self) -> WorkerRef:
        return self.prefill or self.decode

    def unread_tokens(self, facts: Facts) -> int:
        """Prompt tokens that the reader is thought to compute: what it fetches is not among them."""
        return min(facts.uncached_tokens(each.worker) for each in (self.reader, self.source or self.reader))

    def __str__(self) -> str:
        path = f"{self.prefill.worker}>{self.decode.worker}" if self.prefill else f"local:{self.decode.worker}"
        return f"{path}<{self.source.worker}" if self.source else path


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A route that was weighed. The terms sum to the cost; `ttft_s` and `itl_s` are what the request itself would see.

    `cost_source`: whether the reader's own timings were used.
    """

    route: Route
    terms: Mapping[str, float]
    ttft_s: float = 0.0
    itl_s: float = 0.0
    cost_source: CostSource = CostSource.DEFAULT

    @property
    def cost_s(self) -> float:
        return sum(self.terms.values())

    @property
    def rank(self) -> tuple[float, str, str]:
        """Sort key: cheapest first, ties to the lower worker ids, so that a decision can be replayed."""
        return self.cost_s, self.route.decode.worker, self.route.prefill.worker if self.route.prefill else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The chosen route, and the best candidates, cheapest first."""

    route: Route
    candidates: tuple[Candidate, ...]

    @property
    def chosen(self) -> Candidate:
        return next(candidate for candidate in self.candidates if candidate.route == self.route)
