"""What is promised to clients, and how fast a broken promise wakes somebody.

Multi-window, multi-burn-rate alerts after the SRE workbook, chapter 5: a burn rate of 1 spends the budget of 30 days in
30 days. The long window says that it matters, the short one that it still goes on.
"""

from dataclasses import dataclass

from common.config.sections.admission import AdmissionSection
from common.core.errors import Reason
from common.core.request import Priority
from common.observe.catalogue import (
    ITL_SECONDS,
    REQUESTS_FAILED,
    REQUESTS_FINISHED,
    REQUESTS_REFUSED,
    TTFT_SECONDS,
)
from common.observe.metric import Metric
from deploy.labels import BY, series

LIMITS = AdmissionSection()

CLIENTS_OWN = (
    *(Reason.INVALID_REQUEST, Reason.CONTEXT_LENGTH_EXCEEDED, Reason.MODEL_NOT_FOUND, Reason.MALFORMED_MESSAGE),
    *(Reason.REQUEST_EXISTS, Reason.REQUEST_NOT_FOUND, Reason.UNSUPPORTED, Reason.CANCELLED, Reason.SLOW_READER),
    *(Reason.UNAUTHENTICATED, Reason.PERMISSION_DENIED, Reason.MESSAGE_TOO_LARGE, Reason.RESUME_EXPIRED),
)
"""Failures that clients bring about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A share of good events, and the two rates it is made of. `WINDOW` stands for the range."""

    name: str
    target: float
    total: str
    bad: str
    sentence: str

    @property
    def budget(self) -> float:
        return round(1 - self.target, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """One alert of an objective."""

    factor: float
    long: str
    short: str
    severity: str
    budget_spent: str


BURNS = (
    Burn(factor=14.4, long="1h", short="5m", severity="page", budget_spent="2 % of 30 days' budget within an hour"),
    Burn(factor=6, long="6h", short="30m", severity="page", budget_spent="5 % of 30 days' budget within six hours"),
    Burn(factor=3, long="1d", short="2h", severity="ticket", budget_spent="10 % of 30 days' budget within a day"),
    Burn(factor=1, long="3d", short="6h", severity="ticket", budget_spent="10 % of 30 days' budget within three days"),
)
MIN_BAD = 5
"""Chosen: bad events within the long window below which no burn is told: one failure of a nightly dozen is 8 %."""

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


def _rate(metric: str, *conditions: str) -> str:
    return f"sum by ({BY}) (rate({series(metric, *conditions)}[WINDOW]))"


def _too_slow(name: str, metric: Metric, limit_s: float, target: float, what: str) -> Objective:
    assert limit_s in metric.buckets, f"{metric.name} has no edge at {limit_s}"
    interactive = f'priority="{Priority.INTERACTIVE.value}"'
    total = _rate(f"{metric.name}_count", interactive)
    good = _rate(f"{metric.name}_bucket", interactive, f'le=~"{limit_s:g}|{limit_s:.1f}"')
    return Objective(
        name=name,
        target=target,
        total=total,
        bad=f"({total} - {good})",
        sentence=f"{target:.0%} of interactive {what} within {limit_s:g} s",
    )


def _availability() -> Objective:
    # What the operator's own lack of room refused counts; what the client did wrong, or gave up, does not.
    failed = _rate(REQUESTS_FAILED.name, f'reason!~"{"|".join(CLIENTS_OWN)}"')
    refused = _rate(REQUESTS_REFUSED.name, 'reason!="RATE_LIMITED"')
    finished = _rate(REQUESTS_FINISHED.name)
    bad = f"({failed} + {refused})"
    return Objective(
        name="availability",
        target=0.999,
        total=f"({finished} + {bad})",
        bad=bad,
        sentence="99.9 % of requests end neither in an error of ours nor in a refusal for lack of room",
    )


OBJECTIVES = (
    _availability(),
    _too_slow("ttft", TTFT_SECONDS, LIMITS.ttft_interactive_s, 0.99, "first tokens"),
    _too_slow("itl", ITL_SECONDS, LIMITS.itl_interactive_s, 0.99, "times between tokens"),
)
