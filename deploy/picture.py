"""`python -m deploy.picture --prometheus URL --out FOLDER`: the dashboards as pictures, without a Grafana.

Panels are asked of a running Prometheus and drawn where the JSON puts them. Needs matplotlib, which is optional.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.core.clock import SystemClock
from deploy.dashboards import DASHBOARDS
from deploy.dashboards.panel import COLUMNS, Json
from deploy.prometheus import Line, Span, fill_in, range_query

ROW_IN, COLUMN_IN, DPI = 0.29, 0.6, 62
"""Inches of a grid's unit; with the dots per inch chosen so that a whole dashboard is one small file."""

MAX_LEGEND = 6
UNITS = {"s": "s", "bytes": "bytes", "Bps": "bytes/s", "reqps": "requests/s", "percentunit": "share", "short": ""}

Lines = Sequence[tuple[str, Line]]
"""With their legends."""


def lines_of(panel: Json, query: Callable[[str], Sequence[Line]]) -> Lines:
    """What each of the panel's queries is answered, under its legend."""
    return [
        (legend(target["legendFormat"], line), line)
        for target in panel.get("targets", ())
        for line in query(target["expr"])
    ]


def legend(pattern: str, line: Line) -> str:
    """{{label}} stands for the label's value."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: line.labels.get(found[1], ""), pattern)


def draw(dashboard: Json, query: Callable[[str], Sequence[Line]], file: Path) -> None:
    """One picture. `query` answers an expression as the JSON has it. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) + 1
    picture = Figure(figsize=(COLUMNS * COLUMN_IN, height * ROW_IN), dpi=DPI)
    picture.text(0.01, 1 - 0.5 / height, dashboard["title"], fontsize=14, va="center", weight="bold")
    for panel in panels:
        place = panel["gridPos"]
        top = 1 - (place["y"] + 1) / height
        if panel["type"] == "row":
            picture.text(0.01, top - 0.5 / height, panel["title"], fontsize=11, va="center", color="0.3")
            continue
        left, width = place["x"] / COLUMNS, place["w"] / COLUMNS
        box = (left + 0.035, top - (place["h"] - 1.3) / height, width - 0.045, (place["h"] - 2.6) / height)
        _graph(picture.add_axes(box), panel, lines_of(panel, query))
    picture.savefig(file)


def _graph(axes: Any, panel: Json, lines: Lines) -> None:
    from matplotlib.ticker import EngFormatter

    unit = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    if "bytes" in unit:
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_title(panel["title"] + (f" ({unit})" if unit else ""), fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    axes.grid(visible=True, alpha=0.3)
    if not lines:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes, color="0.6", fontsize=9)
        return
    began = min(line.times[0] for _, line in lines)
    is_stacked = "stacking" in panel["fieldConfig"]["defaults"]["custom"]
    below: dict[float, float] = {}
    named = [name for name, line in lines if len(lines) <= MAX_LEGEND or any(line.values)][:MAX_LEGEND]
    for name, line in lines:
        times = [at - began for at in line.times]
        label = name if name in named else None
        if is_stacked:
            floor = [below.get(at, 0.0) for at in line.times]
            roof = [low + value for low, value in zip(floor, line.values, strict=True)]
            axes.fill_between(times, floor, roof, alpha=0.6, label=label)
            below.update(zip(line.times, roof, strict=True))
        else:
            axes.plot(times, line.values, linewidth=1.2, label=label)
    axes.set_ylim(bottom=0)
    if named:
        axes.legend(fontsize=6, loc="upper right", framealpha=0.4, borderpad=0.2, labelspacing=0.2)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.picture", description=__doc__)
    parser.add_argument("--prometheus", required=True, help="its address, like http://127.0.0.1:9090")
    parser.add_argument("--namespace", default="default", help="the dashboard's variable")
    parser.add_argument("--release", default="baton", help="the dashboard's variable")
    parser.add_argument("--minutes", type=float, default=60.0, help="how far back")
    parser.add_argument("--interval", default="1m", help="in place of $__rate_interval: four times a scrape's")
    parser.add_argument("--out", type=Path, required=True, help="a folder; a file per dashboard")
    given = parser.parse_args()
    now = SystemClock().wall()
    span = Span(start=now - given.minutes * 60, end=now, step=max(1.0, given.minutes * 60 / 500))

    def query(expression: str) -> Sequence[Line]:
        chosen = fill_in(expression, namespace=given.namespace, release=given.release, interval=given.interval)
        return range_query(given.prometheus, chosen, span)

    for name, dashboard in DASHBOARDS.items():
        draw(dashboard, query, given.out / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
