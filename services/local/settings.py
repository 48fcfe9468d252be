"""`baton config`: every value with its origin."""

from rich.console import Console
from rich.table import Table

from common.config.config import DEFAULT_ORIGIN, Config
from common.config.table import ConfigRow, describe

UNIT_CHARS = 16
VALUE_CHARS = 12
"""Never fewer, however narrow the terminal is: a value that is not seen is worse than a line that wraps."""
FILE_COLUMNS = 10_000
"""Chosen: a file, or a program that searches it, has no width; a value in two pieces is not found."""


def print_settings(config: Config, console: Console, *, with_reasons: bool) -> None:
    """A line per key; with reasons, why the default is what it is, and who reads it, below each."""
    rows = describe(config)
    if with_reasons:
        for row in rows:
            _print_reason(console, row)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("key", no_wrap=True)
    table.add_column("value", overflow="fold", min_width=VALUE_CHARS)
    table.add_column("unit", no_wrap=True, overflow="ellipsis", max_width=UNIT_CHARS)  # --reasons shows it whole
    table.add_column("origin", overflow="fold")
    for row in rows:
        table.add_row(row.key, row.value, row.unit, row.origin, style="" if row.origin == DEFAULT_ORIGIN else "bold")
    wide = console if console.is_terminal else Console(file=console.file, width=FILE_COLUMNS)
    wide.print(table)


def _print_reason(console: Console, row: ConfigRow) -> None:
    unit = f" {row.unit}" if row.unit else ""
    console.print(f"{row.key} = {row.value}{unit}  ({row.origin}, read by {row.owner})", highlight=False, markup=False)
    reason = Table.grid(padding=(0, 0, 0, 4))
    reason.add_row(row.reason)
    console.print(reason, style="dim")
