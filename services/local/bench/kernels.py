"""`baton bench kernels`: operators on this machine's GPU. What measures them, kernels/bench, runs without the rest."""

from datetime import UTC, datetime
from pathlib import Path

from common.core.clock import Clock
from common.core.errors import StartupError

NO_GPU = 2
"""What kernels.bench answers where there is none."""


def measure_kernels(only: str, repeats: int, out: Path | None, clock: Clock) -> bool:
    """Whether every operator passed its check. Figures go to standard output. Raises StartupError without a GPU."""
    try:
        from kernels.bench.__main__ import main
    except ModuleNotFoundError as missing:
        raise StartupError(
            message=f"operators are measured with torch and triton: {missing.name} is not installed"
        ) from missing
    when = datetime.fromtimestamp(clock.wall(), UTC).isoformat(timespec="minutes")
    arguments = ["--only", only, "--repeats", str(repeats), "--when", when]
    code = main(arguments if out is None else [*arguments, "--out", str(out)])
    if code == NO_GPU:
        raise StartupError(message="there is no NVIDIA GPU here that torch can use")
    return code == 0
