"""A scaling study as a picture: arrivals, and the workers each contender wanted. Matplotlib is optional."""

from collections.abc import Sequence
from pathlib import Path

from services.simulator.plots import figures
from services.simulator.scaling import ScalingSummary

BIN_S = 30.0


def draw_scaling(summaries: Sequence[ScalingSummary], arrivals: Sequence[float], file: Path, *, title: str) -> None:
    """One panel of arrivals per second, one per role. Raises StartupError without the library."""
    picture = figures()(figsize=(10, 8), layout="constrained")
    picture.suptitle(title, fontsize=9)
    top, prefill, decode = picture.subplots(3, 1, sharex=True)
    counts = [0] * (int(arrivals[-1] / BIN_S) + 1)
    for at in arrivals:
        counts[int(at / BIN_S)] += 1
    top.step([index * BIN_S for index in range(len(counts))], [count / BIN_S for count in counts], where="post")
    top.set_ylabel("requests / s")
    for summary in summaries:
        times = [moment.at for moment in summary.moments]
        label = f"{summary.name}: {summary.worker_hours:.2f} h, {summary.met_share:.1%} in time"
        prefill.step(times, [moment.wanted.prefill for moment in summary.moments], where="post", label=label)
        decode.step(times, [moment.wanted.decode for moment in summary.moments], where="post")
    prefill.set_ylabel("prefill workers wanted")
    decode.set_ylabel("decode workers wanted")
    decode.set_xlabel("seconds")
    prefill.legend(fontsize=8)
    for axes in (top, prefill, decode):
        axes.grid(visible=True, alpha=0.3)
    picture.savefig(file)
