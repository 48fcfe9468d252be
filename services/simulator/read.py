"""Which reader a trace file needs: by its ending."""

from pathlib import Path

from services.simulator.lines import is_packed
from services.simulator.mooncake import read_mooncake
from services.simulator.table import read_table
from services.simulator.trace import Trace, unreadable


def read_trace(path: Path) -> Trace:
    """A `.jsonl` or a `.csv`, in either case, compressed where `.gz` follows. Raises InvalidRequest with the fault."""
    if not path.is_file():
        raise unreadable(path, 0, "there is no such file")
    match (path.with_suffix("") if is_packed(path) else path).suffix.lower():
        case ".jsonl":
            return read_mooncake(path).from_zero()
        case ".csv":
            return read_table(path).from_zero()
        case ending:
            raise unreadable(path, 0, f"a trace ends in .jsonl or .csv, perhaps with .gz behind, not in {ending!r}")
