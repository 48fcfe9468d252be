"""`baton plan`: a recorded workload against autoscalers, side by side, on a virtual clock."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from common.core.errors import BatonError
from services.local.failure import fail
from services.local.output import check_output, check_picture, writing
from services.simulator.diurnal import diurnal
from services.simulator.policies import PolicyName
from services.simulator.read import read_trace
from services.simulator.report import Slo
from services.simulator.scaling import ScalingStudy, ScalingSummary, run_scaling
from services.simulator.scaling_play import Replicas
from services.simulator.scaling_plot import draw_scaling
from services.simulator.trace import MAX_SPAN_S


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingWish:
    """The command's flags. `day_s`: arrivals that swing by ten over so many seconds; None: as recorded."""

    trace: Path
    day_s: float | None
    max_prompt_tokens: int | None
    most_prefill: int
    most_decode: int
    start_s: float
    depths: tuple[float, ...]
    chart_factors: tuple[float, ...]
    miss_shares: tuple[float, ...]
    followed_shares: tuple[float, ...]
    ttft_s: float
    itl_s: float
    seed: int
    is_remote: bool = False

    def study(self) -> ScalingStudy:
        """Raises InvalidRequest for a file that cannot be read."""
        trace = read_trace(self.trace)
        if self.day_s is not None:
            trace = diurnal(trace, seed=self.seed, span_s=self.day_s, max_prompt_tokens=self.max_prompt_tokens)
        return replace(
            ScalingStudy(trace=trace),
            most=Replicas(prefill=self.most_prefill, decode=self.most_decode),
            start_s=self.start_s,
            depths=self.depths,
            chart_factors=self.chart_factors,
            miss_shares=self.miss_shares,
            followed_shares=self.followed_shares,
            policy=PolicyName.ALWAYS_REMOTE if self.is_remote else PolicyName.COST_MODEL,
            slo=Slo(ttft_s=self.ttft_s, itl_s=self.itl_s),
        )


def plan(wish: ScalingWish, console: Console, *, as_json: Path | None, plot: Path | None) -> tuple[ScalingSummary, ...]:
    """Runs the study and prints a table; the same numbers as JSON, and a picture, where files are named.

    Raises InvalidRequest before it begins where one cannot be written.
    """
    check_output(as_json, "--json")
    check_picture(plot)
    study = wish.study()
    console.print(
        f"{study.trace.name}: {len(study.trace.requests)} requests in {study.trace.span_s:.0f} s; a worker starts in "
        f"{study.start_s:g} s; in time: first token within {study.slo.ttft_s:g} s, others {study.slo.itl_s:g} s apart",
        highlight=False,
    )
    summaries = tuple(run_scaling(study))
    console.print(_table(summaries))
    if plot is not None:
        with writing("--plot"):
            draw_scaling(summaries, [each.arrived_s for each in study.trace.requests], plot, title=study.trace.name)
    if as_json is not None:
        plain = [{**asdict(summary), "moments": len(summary.moments)} for summary in summaries]
        with writing("--json"):
            as_json.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    return summaries


def _table(summaries: tuple[ScalingSummary, ...]) -> Table:
    made = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    for head in ("autoscaler", "worker-hours", "in time", "late", "TTFT p99", "turns per burst", "most P", "most D"):
        made.add_column(head, justify="left" if head == "autoscaler" else "right", no_wrap=True)
    for each in summaries:
        made.add_row(
            each.name,
            f"{each.worker_hours:.2f}",
            f"{each.met_share:.2%}",
            str(each.missed),
            "-" if each.ttft_s_p99 is None else f"{each.ttft_s_p99:.1f}",
            str(each.turns),
            str(each.most_wanted.prefill),
            str(each.most_wanted.decode),
        )
    return made


def plan_command(
    trace: Annotated[Path, typer.Option(help="Mooncake or Qwen .jsonl, Azure or BurstGPT .csv.")],
    day: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=1.0, max=MAX_SPAN_S, help="Arrivals of a day, swing 10, squeezed into so much."
        ),
    ] = None,
    max_prompt_tokens: Annotated[
        int | None, typer.Option(min=1, help="With --day: longer prompts are left out.")
    ] = None,
    prefill: Annotated[int, typer.Option(min=1, help="Prefill workers at most.")] = 16,
    decode: Annotated[int, typer.Option(min=1, help="Decode workers at most.")] = 8,
    start: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.0, max=86_400.0, help="Until a new worker is ready.")
    ] = 60.0,
    depth: Annotated[
        list[float] | None, typer.Option(min=0.01, help="Waiting requests per replica, of two HPAs; repeatable.")
    ] = None,
    chart: Annotated[
        list[float] | None,
        typer.Option(min=0.01, max=100.0, help="The chart's HPAs by queue, all targets times this; repeatable."),
    ] = None,
    late: Annotated[
        list[float] | None, typer.Option(min=0.0, max=1.0, help="The planner's miss_share; repeatable.")
    ] = None,
    followed: Annotated[
        list[float] | None,
        typer.Option(min=0.0, max=1.0, help="The same, where HPAs carry out what it wants; repeatable."),
    ] = None,
    ttft: Annotated[float, typer.Option(metavar="SECONDS", min=0.0, help="Objective: time to the first token.")] = 5.0,
    itl: Annotated[float, typer.Option(metavar="SECONDS", min=0.0, help="Objective: mean time between tokens.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of the day's arrivals.")] = 1,
    always_remote: Annotated[
        bool, typer.Option("--always-remote", help="Prompts are read on prefill workers only.")
    ] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="Write every number there as well.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw what was wanted there: .png or .svg.")] = None,
) -> None:
    """Play a recorded workload against autoscalers: hours and lateness."""
    wish = ScalingWish(
        trace=trace,
        day_s=day,
        max_prompt_tokens=max_prompt_tokens,
        most_prefill=prefill,
        most_decode=decode,
        start_s=start,
        depths=tuple(depth or ()),
        chart_factors=tuple(chart or (() if depth else (1.0,))),
        miss_shares=tuple(late or (() if followed else (0.1,))),
        followed_shares=tuple(followed or ()),
        ttft_s=ttft,
        itl_s=itl,
        seed=seed,
        is_remote=always_remote,
    )
    try:
        plan(wish, Console(width=120), as_json=json_, plot=plot)
    except BatonError as error:
        raise fail(error) from error
