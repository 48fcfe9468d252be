"""Figures of a run, as they are kept and as they are read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kernels.bench.ceilings import Ceilings
from kernels.bench.stopwatch import Timing

REFUSED = "not timed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One case. Without timings the check failed, and `error` says by how much; or `failure`, why it was not made."""

    name: str
    num_bytes: int
    flops: int
    error: float
    tolerance: float
    bound_s: float
    timing: Timing | None
    rivals: Mapping[str, Timing | str]
    failure: str = ""

    @property
    def share(self) -> float | None:
        """Of the bound that was reached."""
        return None if self.timing is None else self.bound_s / self.timing.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """`when` is what the caller said."""

    device: str
    versions: str
    repeats: int
    when: str


def write(path: Path, conditions: Conditions, ceilings: Ceilings, figures: Sequence[Figure]) -> None:
    """As one JSON object, whole at any moment: a run may be cut off while it writes."""
    cases = [{**asdict(figure), "share": figure.share} for figure in figures]
    whole = {"conditions": asdict(conditions), "ceilings": asdict(ceilings), "cases": cases}
    half = path.with_suffix(".half")
    half.write_text(json.dumps(whole, indent=1) + "\n")
    half.replace(path)


def heading(conditions: Conditions, ceilings: Ceilings) -> str:
    """Above the table."""
    return (
        f"{conditions.device}, {conditions.versions}; copy {ceilings.bytes_per_s / 1e12:.2f} TB/s, "
        f"product {ceilings.flops_per_s / 1e12:.0f} TFLOP/s; medians of {conditions.repeats}, cold caches\n"
        f"{'case':52} {'error':>8} {'bound us':>9} {'time us':>9} {'share':>6}  others"
    )


def line(figure: Figure) -> str:
    """A row of the table."""
    others = ", ".join(
        f"{name} {other}" if isinstance(other, str) else f"{name} {other.seconds * 1e6:.1f} us"
        for name, other in figure.rivals.items()
    )
    if figure.failure:
        return f"{figure.name:52} {'':8} {'':9} {REFUSED:>9}         {' '.join(figure.failure.split())}"
    if figure.timing is None or figure.share is None:
        return f"{figure.name:52} {figure.error:8.1e} {figure.bound_s * 1e6:9.1f} {REFUSED:>9}         {others}"
    return (
        f"{figure.name:52} {figure.error:8.1e} {figure.bound_s * 1e6:9.1f} {figure.timing.seconds * 1e6:9.1f} "
        f"{figure.share:6.1%}  {others}"
    )
