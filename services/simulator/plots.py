"""Distributions as a picture, a line per policy. The simulator's door to matplotlib, which is optional."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from common.core.errors import StartupError
from services.simulator.outcome import Outcome

PANELS = (("time to first token, s", "ttft"), ("time between tokens, mean of each answer, s", "itl"))
MAX_POINTS = 2000
"""Chosen: more than a picture has columns."""


def figures() -> type:
    """What pictures are made of. Raises StartupError without the library."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise StartupError(message="plots need matplotlib: pip install 'baton[plots]'") from error
    made: type = Figure
    return made


def draw(outcomes: Sequence[Outcome], file: Path, *, title: str) -> None:
    """Share of requests that were at least as fast, per policy. Raises StartupError without the library."""
    picture = figures()(figsize=(10, 4.5), layout="constrained")
    picture.suptitle(title, fontsize=9)
    lines = {outcome.policy: distributions(outcome) for outcome in outcomes}
    for number, (label, name) in enumerate(PANELS):
        axes = picture.add_subplot(1, len(PANELS), number + 1)
        for policy, values in lines.items():
            found = values[name]
            axes.plot(found, [(index + 1) / len(found) for index in range(len(found))], label=policy)
        axes.set_xscale("log")
        axes.set_xlabel(label)
        axes.set_ylabel("share of requests")
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=8)
    picture.savefig(file)


def distributions(outcome: Outcome) -> Mapping[str, list[float]]:
    """Values in order, thinned out evenly."""
    return {
        "ttft": _thinned([each.ttft_s for each in outcome.served]),
        "itl": _thinned([each.itl_s for each in outcome.served]),
    }


def _thinned(values: Sequence[float | None]) -> list[float]:
    ordered = sorted(value for value in values if value is not None)
    step = max(1, len(ordered) // MAX_POINTS)
    return ordered[::step]
