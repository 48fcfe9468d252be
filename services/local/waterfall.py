"""`baton waterfall`: where one request's time went."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from common.observe.lifetime import Mark
from common.observe.waterfall import render_waterfall
from protos.baton.v1 import types_pb2
from services.local.client import RouterClient
from services.local.prompt import check_text

BAR_COLUMNS = 12
WIDE_BAR_COLUMNS = 32
WIDE_TERMINAL = 110


async def waterfall(client: RouterClient, request_id: str, console: Console) -> None:
    """Print it.

    Raises NotFound when this router does not remember the request, InvalidRequest where it is no id.
    """
    check_text("REQUEST_ID", request_id)
    found = await client.waterfall(request_id)
    usage = found.usage
    console.print(
        f"{request_id}: {found.outcome}; {usage.prompt_tokens} prompt tokens, {usage.cached_tokens} of them cached; "
        f"{usage.completion_tokens} written",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    print_stations(console, request_id, found.stations)


def print_stations(console: Console, request_id: str, stations: Sequence[types_pb2.Station]) -> None:
    """A table that fits the terminal; elsewhere one whole line per station."""
    if console.is_terminal:
        console.print(station_table(stations, WIDE_BAR_COLUMNS if console.width >= WIDE_TERMINAL else BAR_COLUMNS))
        return
    marks = [
        Mark(station=station.name, at=station.at_s, where=station.where, facts=dict(sorted(station.facts.items())))
        for station in stations
    ]
    console.print(render_waterfall(request_id, marks), highlight=False, markup=False, soft_wrap=True)


def station_table(stations: Sequence[types_pb2.Station], bar_columns: int) -> Table:
    """Milliseconds since the start and since the station before, and a bar from there to here."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for name in ("ms", "+ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("station", "where", ""):
        table.add_column(name, no_wrap=True)
    table.add_column("", overflow="fold", style="dim")
    ordered = sorted(stations, key=lambda station: station.at_s)
    total_s = ordered[-1].at_s - ordered[0].at_s if ordered else 0.0
    before = ordered[0].at_s if ordered else 0.0
    for station in ordered:
        bar = _bar(before, station.at_s, total_s, bar_columns)
        at, waited = f"{station.at_s * 1000:.1f}", f"{(station.at_s - before) * 1000:.1f}"
        table.add_row(at, waited, station.name, station.where, bar, _facts(station.facts))
        before = station.at_s
    return table


def _bar(begin_s: float, end_s: float, total_s: float, columns: int) -> str:
    scale = columns / total_s if total_s > 0 else 0.0
    first = min(int(begin_s * scale), columns - 1)
    last = min(max(int(end_s * scale), first + 1), columns)
    return "·" * first + "━" * (last - first) + "·" * (columns - last)


def _facts(facts: Mapping[str, float]) -> str:
    return " ".join(f"{name}={value:,.10g}" for name, value in sorted(facts.items()))
