"""`baton simulate`: a recorded workload against policies, side by side, on a virtual clock."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from common.core.errors import BatonError, InvalidRequest
from services.local.failure import fail
from services.local.output import check_output, check_picture, writing
from services.local.screen import console
from services.simulator.calibration import read_calibration
from services.simulator.cluster import ClusterShape
from services.simulator.outcome import Outcome
from services.simulator.pairs import ratios
from services.simulator.plots import draw
from services.simulator.policies import PolicyName
from services.simulator.read import read_trace
from services.simulator.report import Slo, Summary
from services.simulator.saturation import speed_for
from services.simulator.study import Study, run_study

POLICY_HELP = f"One of {', '.join(PolicyName)}; repeatable; else all."


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The command's flags."""

    trace: Path
    workers: int
    prefill: int
    decode: int
    cache_tokens: int | None
    policies: tuple[PolicyName, ...]
    speed: float
    load: float | None
    seeds: tuple[int, ...]
    max_requests: int | None
    calibration: Path | None
    ttft_s: float
    itl_s: float
    is_routing_only: bool

    def _shape(self) -> ClusterShape:
        if self.calibration is None:
            return ClusterShape(
                prefill=self.prefill, decode=self.decode, dual=self.workers, cache_tokens=self.cache_tokens or 3_070_000
            )
        measured = read_calibration(self.calibration)
        shape = measured.shape(prefill=self.prefill, decode=self.decode, dual=self.workers)
        return shape if self.cache_tokens is None else replace(shape, cache_tokens=self.cache_tokens)

    def study(self) -> Study:
        """Raises InvalidRequest for a file that cannot be read."""
        trace = read_trace(self.trace)
        shape = self._shape()
        policies = self._playable(shape)
        return Study(
            trace=trace,
            shape=shape,
            policies=policies,
            seeds=self.seeds,
            speed=self.speed if self.load is None else speed_for(self.load, trace, shape),
            max_requests=self.max_requests,
            slo=Slo(ttft_s=self.ttft_s, itl_s=self.itl_s),
            is_routing_only=self.is_routing_only,
        )

    def _playable(self, shape: ClusterShape) -> tuple[PolicyName, ...]:
        """Raises InvalidRequest where these workers can follow none of the policies."""
        if not shape.can_write:
            raise InvalidRequest(message="nobody writes answers here: add --decode, or give --workers alone")
        playable = tuple(name for name in self.policies if name is not PolicyName.ALWAYS_REMOTE or shape.can_part)
        if not playable:
            raise InvalidRequest(message=f"{PolicyName.ALWAYS_REMOTE} needs two workers: one reads for another")
        return playable


COLUMNS = (
    ("policy", "policy", "{}"),
    ("seed", "seed", "{}"),
    ("good/s", "goodput_per_s", "{:.2f}"),
    ("good", "good_share", "{:.1%}"),
    ("TTFT mean", "ttft_s_mean", "{:.3f}"),
    ("p50", "ttft_s_p50", "{:.3f}"),
    ("p99", "ttft_s_p99", "{:.2f}"),
    ("ITL p50", "itl_s_p50", "{:.4f}"),
    ("p99", "itl_s_p99", "{:.4f}"),
    ("hits", "hit_rate", "{:.1%}"),
    ("imbal.", "imbalance", "{:.3f}"),
    ("remote", "remote_share", "{:.0%}"),
    ("refused", "num_refused", "{}"),
)
MIN_WIDTH = 116
"""What these columns need: a narrower terminal wraps, rather than lose numbers."""


def simulate(wish: Wish, console: Console, *, as_json: Path | None, plot: Path | None) -> tuple[Summary, ...]:
    """Runs the study and prints a table; the same numbers as JSON where a file is named.

    Raises InvalidRequest before it begins where a file cannot be written.
    """
    check_output(as_json, "--json")
    check_picture(plot)
    study = wish.study()
    trace, shape = study.trace, study.shape
    console.print(
        f"{trace.name}: {len(trace.requests)} requests, {trace.prompt_tokens / len(trace.requests):.0f} prompt tokens "
        f"each; {len(shape.roles())} workers of {shape.cache_tokens / 1e6:.2f} M cached tokens; {study.speed:g}x speed",
        highlight=False,
    )
    for name in set(wish.policies) - set(study.policies):
        console.print(f"{name} is left out: there is nobody else to read", highlight=False)
    outcomes: list[Outcome] = []
    summaries = tuple(run_study(study, note=lambda outcome, seed: _keep(outcomes, outcome, is_wanted=plot is not None)))
    wide = Console(file=console.file, width=max(MIN_WIDTH, console.width))
    wide.print(table(summaries))
    console.print(f"one shared pool would find {summaries[0].hit_ceiling:.1%}", highlight=False)
    for ratio in ratios(summaries, PolicyName.COST_MODEL, (PolicyName.ALWAYS_LOCAL, PolicyName.ALWAYS_REMOTE)):
        interval = f"[{ratio.low:.3f}, {ratio.high:.3f}]" if ratio.num_seeds > 1 else "(one seed)"
        console.print(
            f"cost-model / better of always-local, -remote: {ratio.figure} {ratio.mean:.3f} {interval}",
            highlight=False,
        )
    if plot is not None:
        with writing("--plot"):
            draw(outcomes, plot, title=f"{trace.name}, {study.speed:g}x speed")
    if as_json is not None:
        with writing("--json"):
            as_json.write_text(json.dumps([asdict(each) for each in summaries], indent=1) + "\n", encoding="utf-8")
    return summaries


def _keep(outcomes: list[Outcome], outcome: Outcome, *, is_wanted: bool) -> None:
    """For the picture: of several seeds the first."""
    if is_wanted and all(each.policy != outcome.policy for each in outcomes):
        outcomes.append(outcome)


def table(summaries: Sequence[Summary]) -> Table:
    """A row per policy and seed. Times in seconds."""
    made = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    for head, name, _form in COLUMNS:
        made.add_column(head, justify="left" if name == "policy" else "right", no_wrap=True)
    for summary in summaries:
        cells = [(getattr(summary, name), form) for _head, name, form in COLUMNS]
        made.add_row(*("-" if value is None else form.format(value) for value, form in cells))
    return made


def simulate_command(
    trace: Annotated[Path, typer.Option(help="Mooncake or Qwen .jsonl, Azure or BurstGPT .csv.")],
    workers: Annotated[int, typer.Option(min=0, help="Workers that read and write.")] = 8,
    prefill: Annotated[int, typer.Option(min=0, help="Workers that read for others.")] = 0,
    decode: Annotated[int, typer.Option(min=0, help="Workers that write.")] = 0,
    cache_tokens: Annotated[
        int | None, typer.Option(min=1024, help="Tokens that each worker holds; else 3.07 million, or as calibrated.")
    ] = None,
    policy: Annotated[list[PolicyName] | None, typer.Option(metavar="NAME", help=POLICY_HELP)] = None,
    speed: Annotated[float, typer.Option(min=0.001, max=1e6, help="How many times as fast as recorded.")] = 1.0,
    load: Annotated[
        float | None, typer.Option(min=0.01, max=1e3, help="Instead: share of what these workers can do at most.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable; every policy sees the same arrivals.")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="What `baton calibrate` wrote.")] = None,
    ttft: Annotated[float, typer.Option(metavar="SECONDS", min=0.0, help="Objective: time to the first token.")] = 5.0,
    itl: Annotated[float, typer.Option(metavar="SECONDS", min=0.0, help="Objective: mean time between tokens.")] = 0.1,
    routing_only: Annotated[bool, typer.Option("--routing-only", help="No steps: hit rate and balance, fast.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="Write every number there as well.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the distributions there: .png or .svg.")] = None,
) -> None:
    """Play a recorded workload against policies, on a virtual clock."""
    wish = Wish(
        trace=trace,
        workers=workers if not (prefill or decode) else 0,
        prefill=prefill,
        decode=decode,
        cache_tokens=cache_tokens,
        policies=tuple(policy or PolicyName),
        speed=speed,
        load=load,
        seeds=tuple(seed or (0,)),
        max_requests=requests,
        calibration=calibration,
        ttft_s=ttft,
        itl_s=itl,
        is_routing_only=routing_only,
    )
    try:
        simulate(wish, console, as_json=json_, plot=plot)
    except BatonError as error:
        raise fail(error) from error
