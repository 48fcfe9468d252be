"""Which reader a trace file needs: by its ending."""

from pathlib import Path

from services.simulator.azure import read_azure
from services.simulator.mooncake import read_mooncake
from services.simulator.trace import Trace, unreadable


def read_trace(path: Path) -> Trace:
    """Mooncake's .jsonl or Azure's .csv. Raises InvalidRequest for what cannot be read."""
    if not path.is_file():
        raise unreadable(path, 0, "there is no such file")
    match path.suffix:
        case ".jsonl":
            return read_mooncake(path)
        case ".csv":
            return read_azure(path)
        case ending:
            raise unreadable(path, 0, f"a trace ends in .jsonl or .csv, not in {ending!r}")
