"""A situation and exactly the alerts that fire in it, written as promtool's unit tests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.alerts import ALERTS

IN, OF = "ns", "demo"
"""The namespace and the release of every case, as tests/deploy/chart.py renders them."""

ROUTER = f'namespace="{IN}",release="{OF}",pod="r-0",role="router"'
PREFILL = f'namespace="{IN}",release="{OF}",pod="p-0",role="prefill"'
DECODE = f'namespace="{IN}",release="{OF}",pod="d-0",role="decode"'
PLANNER = f'namespace="{IN}",release="{OF}",pod="s-0",role="planner"'

NAMED = {alert.name: alert for alert in ALERTS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One alert as it reaches somebody: its labels beside severity, namespace and release, and its first line."""

    alert: str
    summary: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def expected(self, runbook: str) -> dict[str, Any]:
        alert = NAMED[self.alert]
        return {
            "exp_labels": {"severity": alert.severity, "namespace": IN, "release": OF, **self.labels},
            "exp_annotations": {
                "summary": self.summary,
                "description": alert.description,
                "runbook_url": f"{runbook}#{self.alert.lower()}",
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`series` maps a selector to promtool's notation, with a sample a minute. `fires`: all that is told after so many
    minutes. `rests`: what this is the counterexample of; nothing else is told either."""

    name: str
    series: Mapping[str, str]
    fires: tuple[Page, ...] = ()
    rests: tuple[str, ...] = ()
    minutes: int = 60

    def test(self, runbook: str) -> dict[str, Any]:
        told: dict[str, list[dict[str, Any]]] = {alert: [] for alert in NAMED}
        for page in self.fires:
            told[page.alert].append(page.expected(runbook))
        return {
            "name": self.name,
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in self.series.items()],
            "alert_rule_test": [
                {"eval_time": f"{self.minutes}m", "alertname": alert, "exp_alerts": pages}
                for alert, pages in told.items()
            ],
        }


def scraped(minutes: int) -> dict[str, str]:
    """What says that a router is scraped."""
    return {f"baton_build_info{{{ROUTER}}}": f"1x{minutes}"}


def document(cases: Iterable[Case], *, rules: Mapping[str, Any], runbook: str, every: str) -> dict[str, Any]:
    """What `promtool test rules` reads beside rules.yaml. `every`: how often rules are looked at; as groups look one
    after the other, what one records is what the next one sees."""
    return {
        "rule_files": ["rules.yaml"],
        "group_eval_order": [group["name"] for group in rules["groups"]],
        "evaluation_interval": every,
        "tests": [case.test(runbook) for case in cases],
    }
