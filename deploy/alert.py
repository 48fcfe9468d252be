"""One alert, and the selectors that alerts are made of."""

from dataclasses import dataclass

from common.observe.metric import Metric
from deploy.labels import BY, series


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert. `summary` and `description` may use Prometheus' templates."""

    name: str
    expression: str
    severity: str
    summary: str
    description: str
    hold: str = "0m"


def grown(metric: Metric, window: str, *conditions: str) -> str:
    return f"sum by ({BY}) (increase({series(metric.name, *conditions)}[{window}]))"
