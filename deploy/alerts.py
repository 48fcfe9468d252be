"""Alerts: first what clients feel (burn rates), then causes. Each has an entry in docs/runbook.md under its name."""

from deploy.alert import Alert
from deploy.causes import CAUSES
from deploy.foundations import FOUNDATIONS
from deploy.labels import HERE
from deploy.objectives import BURNS, MIN_BAD, OBJECTIVES, Objective

TITLES = {"availability": "Availability", "ttft": "FirstToken", "itl": "TokenGap"}


def burn_alert(objective: Objective, severity: str) -> Alert:
    """One alert for all windows of a severity: long and short of a pair, or those of the other pair. Never for fewer
    bad events than MIN_BAD: where hardly anybody asks, every failure is a large share."""
    recorded, budget = f"baton:{objective.name}_errors:ratio_rate", f"{objective.budget:g}"
    burns = [burn for burn in BURNS if burn.severity == severity]
    pairs = [
        f"({recorded}{burn.long}{{{HERE}}} > {burn.factor:g} * {budget} "
        f"and {recorded}{burn.short}{{{HERE}}} > {burn.factor:g} * {budget} "
        f"and baton:{objective.name}_bad:increase{burn.long}{{{HERE}}} >= {MIN_BAD})"
        for burn in burns
    ]
    return Alert(
        name=f"Baton{TITLES[objective.name]}Burn{'Fast' if severity == 'page' else 'Slow'}",
        expression=" or ".join(pairs),
        severity=severity,
        summary=f"{objective.name}: {{{{ $value | humanizePercentage }}}} of events are bad",
        description=f"Promise: {objective.sentence}. {'; or '.join(burn.budget_spent for burn in burns)} is gone.",
    )


SEVERITIES = ("page", "ticket")
ALERTS = (
    *(burn_alert(objective, severity) for objective in OBJECTIVES for severity in SEVERITIES),
    *CAUSES,
    *FOUNDATIONS,
)
