"""A request's life as text: one line per station, a bar where its time went."""

from collections.abc import Sequence

from common.observe.lifetime import Mark

_FULL, _MARK = "━", "╸"


def render_waterfall(title: str, marks: Sequence[Mark], *, width: int = 40, max_lines: int = 200) -> str:
    """Lines of `time since start, time since the station before, station, where, bar, facts`.

    The bar of a station begins at the station before: it shows the time this step took. `width` is the bar's columns.
    """
    if not marks:
        return f"{title}: no stations recorded"
    ordered = sorted(marks, key=lambda mark: mark.at)
    start, total = ordered[0].at, ordered[-1].at - ordered[0].at
    shown = ordered[:max_lines]
    name_width = max(len(mark.station) for mark in shown)
    where_width = max(len(mark.where) for mark in shown)
    lines = [f"{title}: {_milliseconds(total)} over {len(ordered)} stations"]
    before = start
    for mark in shown:
        bar = _bar(before - start, mark.at - start, total, width)
        lines.append(
            f"{_milliseconds(mark.at - start):>12} {'+' + _milliseconds(mark.at - before):>13}  "
            f"{mark.station:<{name_width}}  {mark.where:<{where_width}}  |{bar}|  {_facts(mark)}".rstrip()
        )
        before = mark.at
    if len(ordered) > len(shown):
        lines.append(f"{'':>12} {len(ordered) - len(shown)} more stations")
    return "\n".join(lines)


def _bar(begin: float, end: float, total: float, width: int) -> str:
    if total <= 0:
        return _MARK.ljust(width)
    first = min(int(begin / total * width), width - 1)
    last = min(int(end / total * width), width - 1)
    return (" " * first + _FULL * (last - first) + _MARK).ljust(width)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 10 else f"{seconds:.2f} s"


def _facts(mark: Mark) -> str:
    return " ".join(f"{name}={value:,.10g}" for name, value in mark.facts.items())
