"""Panels and dashboards in Grafana's JSON, as small functions: the few kinds that ours are made of."""

import hashlib
from dataclasses import dataclass
from typing import Any

from common.observe.metric import Metric
from deploy.labels import SHOWN, series

Json = dict[str, Any]
COLUMNS, HEIGHT = 24, 7
DATASOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One line, or family of lines, of a panel."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A graph over time. `unit` is Grafana's name of it. Stacked: its lines are parts of one sum."""

    title: str
    sentence: str
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 8
    is_stacked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


def shown(metric: Metric, *conditions: str, suffix: str = "") -> str:
    """A selector of the release that the dashboard's variables choose."""
    return series(metric.name + suffix, *conditions, where=SHOWN)


def total(metric: Metric, *conditions: str, by: str = "", legend: str = "total") -> Query:
    clause = f" by ({by})" if by else ""
    return Query(expression=f"sum{clause} ({shown(metric, *conditions)})", legend=legend)


def peak(metric: Metric, *conditions: str, by: str = "pod", legend: str = "{{pod}}") -> Query:
    return Query(expression=f"max by ({by}) ({shown(metric, *conditions)})", legend=legend)


def rate(metric: Metric, *conditions: str, by: str = "", legend: str = "total") -> Query:
    clause = f" by ({by})" if by else ""
    return Query(expression=f"sum{clause} (rate({shown(metric, *conditions)}[$__rate_interval]))", legend=legend)


def seen(query: Query) -> Query:
    """Only lines above 0: reasons are many, and most never come. A total beside them shows that there is none."""
    return Query(expression=f"{query.expression} > 0", legend=query.legend)


def quantile(share: float, metric: Metric, *conditions: str, legend: str = "") -> Query:
    buckets = shown(metric, *conditions, suffix="_bucket")
    name = legend or f"p{share * 100:g}"
    return Query(
        expression=f"histogram_quantile({share:g}, sum by (le) (rate({buckets}[$__rate_interval])))", legend=name
    )


def mean(metric: Metric, *conditions: str, legend: str) -> Query:
    """Of a histogram. Where nothing was observed there is no mean: a gap, not 0."""
    seconds, count = (
        f"sum (rate({shown(metric, *conditions, suffix=suffix)}[$__rate_interval]))" for suffix in ("_sum", "_count")
    )
    return Query(expression=f"{seconds} / ({count} > 0)", legend=legend)


def quantiles(metric: Metric, *conditions: str) -> tuple[Query, ...]:
    return tuple(quantile(share, metric, *conditions) for share in (0.5, 0.95, 0.99))


def dashboard(title: str, name: str, rows: tuple[Row, ...]) -> Json:
    """The whole document. Its uid depends on its name alone, so links survive updates."""
    panels: list[Json] = []
    y = 0
    for row in rows:
        panels.append(_heading(row.title, len(panels) + 1, y))
        y += 1
        x = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + HEIGHT
            panels.append(_graph(panel, len(panels) + 1, x, y))
            x += panel.width
        y += HEIGHT
    return {
        "title": title,
        "uid": hashlib.sha256(f"baton/{name}".encode()).hexdigest()[:16],
        "tags": ["baton"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_datasource(), _variable("namespace", ""), _variable("release", "namespace")]},
        "panels": panels,
    }


def _heading(title: str, number: int, y: int) -> Json:
    place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
    return {"type": "row", "id": number, "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _graph(panel: Panel, number: int, x: int, y: int) -> Json:
    custom: Json = {"fillOpacity": 60 if panel.is_stacked else 8}
    if panel.is_stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    return {
        "type": "timeseries",
        "id": number,
        "title": panel.title,
        "description": panel.sentence,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query.expression, "legendFormat": query.legend}
            for index, query in enumerate(panel.queries)
        ],
    }


def _datasource() -> Json:
    return {"name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(label: str, within: str) -> Json:
    where = f'{{{within}="${within}"}}' if within else ""
    return {
        "name": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": f"label_values(baton_build_info{where}, {label})", "refId": label},
        "refresh": 2,
        "sort": 1,
    }
