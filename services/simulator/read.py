"""Which reader a trace file needs: by its ending."""

from pathlib import Path

from services.simulator.mooncake import read_mooncake
from services.simulator.table import read_table
from services.simulator.trace import Trace, unreadable


def read_trace(path: Path) -> Trace:
    """A `.jsonl` or a `.csv`, compressed where `.gz` follows. Raises InvalidRequest for what cannot be read."""
    if not path.is_file():
        raise unreadable(path, 0, "there is no such file")
    match path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix:
        case ".jsonl":
            return read_mooncake(path).from_zero()
        case ".csv":
            return read_table(path).from_zero()
        case ending:
            raise unreadable(path, 0, f"a trace ends in .jsonl or .csv, perhaps with .gz behind, not in {ending!r}")
