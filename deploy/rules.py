"""Recording rules, alerts, and what prometheus-adapter shows to the HPAs, as the files that the chart carries."""

from typing import Any

from common.observe import catalogue as c
from common.observe.metric import Metric
from deploy.alert import Alert
from deploy.alerts import ALERTS
from deploy.labels import BY, NAMESPACE, RELEASE, series
from deploy.objectives import BURNS, OBJECTIVES, WINDOWS, Objective

RUNBOOK = "RUNBOOK"
"""Replaced by the chart."""

SECONDS = {"1h": 3600, "6h": 21600, "1d": 86400, "3d": 259200}
"""Of the long windows."""

Rule = dict[str, Any]


def _ratio(objective: Objective, window: str) -> Rule:
    bad, total = objective.bad.replace("WINDOW", window), objective.total.replace("WINDOW", window)
    # Where nothing was asked nothing was bad: 0 / 0 is no sample.
    return {"record": f"baton:{objective.name}_errors:ratio_rate{window}", "expr": f"{bad} / ({total} > 0)"}


def _bad(objective: Objective, window: str) -> Rule:
    """How many events were bad, for the floor of burn alerts."""
    rate = objective.bad.replace("WINDOW", window)
    return {"record": f"baton:{objective.name}_bad:increase{window}", "expr": f"{rate} * {SECONDS[window]}"}


_PREFILL, _DECODE = 'role="prefill"', 'role="decode"'
_FOR_PREFILL, _FOR_DECODE = 'target="prefill"', 'target="decode"'


def _sum(metric: Metric, *conditions: str) -> str:
    return f"sum by ({BY}) ({series(metric.name, *conditions)})"


def _percentile(metric: Metric) -> str:
    """Of the last two minutes. No request: no sample, and whoever scales by it holds."""
    return f"histogram_quantile(0.95, sum by ({BY}, le) (rate({series(f'{metric.name}_bucket')}[2m])))"


SIGNALS = {
    "baton:prefill_queued_tokens:sum": f"{_sum(c.QUEUE_TOKENS, _FOR_PREFILL)} + {_sum(c.WAITING_TOKENS, _PREFILL)}",
    "baton:decode_kv_usage:sum": _sum(c.KV_USAGE, _DECODE),
    "baton:decode_running_sequences:sum": (
        f"{_sum(c.RUNNING_SEQUENCES, _DECODE)} + {_sum(c.QUEUE_REQUESTS, _FOR_DECODE)}"
    ),
    "baton:decode_admission_seconds:max": f"max by ({BY}) ({series(c.DECODE_ADMISSION_SECONDS.name)})",
    "baton:prefill_desired_replicas:max": f"max by ({BY}) ({series(c.PLANNER_DESIRED.name, _FOR_PREFILL)})",
    "baton:decode_desired_replicas:max": f"max by ({BY}) ({series(c.PLANNER_DESIRED.name, _FOR_DECODE)})",
    "baton:ttft_seconds:p95": _percentile(c.TTFT_SECONDS),
    "baton:itl_seconds:p95": _percentile(c.ITL_SECONDS),
}
"""What autoscaling reads. A sum whose part is missing is missing: unknown is not zero, and the HPA holds."""

ADAPTER = {
    "prefill-queued-tokens": "baton:prefill_queued_tokens:sum",
    "decode-kv-usage": "baton:decode_kv_usage:sum",
    "decode-running-sequences": "baton:decode_running_sequences:sum",
    "decode-admission-seconds": "baton:decode_admission_seconds:max",
    "prefill-desired-replicas": "baton:prefill_desired_replicas:max",
    "decode-desired-replicas": "baton:decode_desired_replicas:max",
    "ttft-p95-seconds": "baton:ttft_seconds:p95",
    "itl-p95-seconds": "baton:itl_seconds:p95",
}
"""Names of external metrics, and the recorded series behind each."""


def _alert(alert: Alert) -> Rule:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.hold,
        # What comes from kube-state-metrics does not know the release: who routes or silences by it must not lose that.
        "labels": {"severity": alert.severity, "namespace": NAMESPACE, "release": RELEASE},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{RUNBOOK}#{alert.name.lower()}",
        },
    }


def rule_groups() -> Rule:
    """The content of a rules file, and of a PrometheusRule's spec."""
    return {
        "groups": [
            {
                "name": f"baton-objectives-{RELEASE}",
                "interval": "30s",
                "rules": [_ratio(objective, window) for objective in OBJECTIVES for window in WINDOWS],
            },
            {
                "name": f"baton-floors-{RELEASE}",
                # Long windows move slowly; below the five minutes after which a sample is stale.
                "interval": "2m",
                "rules": [_bad(objective, burn.long) for objective in OBJECTIVES for burn in BURNS],
            },
            {
                "name": f"baton-signals-{RELEASE}",
                "interval": "15s",
                "rules": [{"record": name, "expr": expression} for name, expression in SIGNALS.items()],
            },
            {"name": f"baton-alerts-{RELEASE}", "rules": [_alert(alert) for alert in ALERTS]},
        ]
    }


def adapter_rules() -> list[Rule]:
    """prometheus-adapter's `externalRules`."""
    return [
        {
            "seriesQuery": f'{recorded}{{namespace!="",release!=""}}',
            "resources": {"overrides": {"namespace": {"resource": "namespace"}}},
            "name": {"as": name},
            "metricsQuery": "max(<<.Series>>{<<.LabelMatchers>>})",
        }
        for name, recorded in ADAPTER.items()
    ]
