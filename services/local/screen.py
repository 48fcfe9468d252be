"""Where commands print: standard output, as wide and as coloured as whoever reads it can take."""

from rich.console import Console

console = Console()
