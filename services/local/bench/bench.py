"""One run of `baton bench`: contenders made, measured, kept, shown."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from rich.console import Console

from common.config.config import Config
from common.config.environment import environment
from common.config.loader import load
from common.core.clock import Clock
from common.core.entropy import Entropy, SeededEntropy
from common.core.errors import StartupError
from common.observe.announce import Announcement, Phase
from services.local.bench.contender import ClusterContender, Contender, EngineContender
from services.local.bench.course import Course
from services.local.bench.plot import draw
from services.local.bench.public import public_words
from services.local.bench.results import ResultsFile, summarise
from services.local.bench.sample import Sample, describe_conditions
from services.local.bench.tables import SHOWN, family_of, results_table
from services.local.bench.ways import Way, lay_out, usable_cores
from services.local.bench.workload import Workload
from services.local.bench.yardstick import measured_bounds
from services.local.topology import Overrides

CHECKPOINT_DTYPE = "model.dtype=auto"
"""What peers serve too. A `--set` of the person's own comes later and wins."""


class Place(StrEnum):
    """What a workload may run on: the engine in this process, or a way to lay out a cluster."""

    ENGINE = "engine"
    RELAY = "relay"
    REPLICAS = "replicas"
    COLOCATED = "colocated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the flags of every `baton bench` command say. `model` None: the configured one."""

    model: Path | None
    config: Path | None
    settings: tuple[str, ...]
    rounds: int
    attempts: int
    seed: int
    out: Path | None
    plot: Path | None

    def overrides(self) -> Overrides:
        """For every process."""
        own = (CHECKPOINT_DTYPE, *self.settings)
        folder = None if self.model is None else self.model.resolve()
        file = None if self.config is None else self.config.resolve()
        return Overrides(file=file, settings=own if folder is None else (*own, f"model.path={folder}"))

    def loaded(self) -> Config:
        """As a worker would read it. Raises StartupError."""
        given = self.overrides()
        return load(given.file, environment(), given.settings)

    def model_folder(self) -> Path:
        return Path(self.loaded().model.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What a run speaks through and measures with."""

    console: Console
    clock: Clock
    entropy: Entropy

    def say(self, line: str) -> None:
        self.console.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)

    def tell(self, said: Announcement) -> None:
        """Of a cluster's processes only what went wrong: they come and go with every round."""
        if said.phase is Phase.FAILED:
            self.say(f"{said.name}: {said.detail}")


def own_contenders(places: Sequence[Place], wish: Wish, lane: Lane) -> list[Contender]:
    """Baton itself in the wanted places. Raises StartupError for a configuration that is refused."""
    given = wish.overrides()
    made: list[Contender] = []
    for place in dict.fromkeys(places):
        if place is Place.ENGINE:
            made.append(EngineContender(config=wish.loaded(), clock=lane.clock))
            continue
        layout = lay_out(Way(place.value), usable_cores())
        made.append(
            ClusterContender(layout=layout, overrides=given, clock=lane.clock, entropy=lane.entropy, tell=lane.tell)
        )
    return made


async def bench(contenders: Sequence[Contender], workloads: Sequence[Workload], wish: Wish, lane: Lane) -> None:
    """Measure, keep, show. Raises StartupError when the results or the plot cannot be written, or there are none."""
    bounds = await measured_bounds(wish.loaded(), lane.say)
    conditions = describe_conditions(
        f"baton {public_words(sys.argv[1:])}",
        wish.model_folder(),
        lane.clock,
        settings=tuple(public_words([setting]) for setting in wish.settings),
        contenders={contender.name: contender.describe() for contender in contenders},
        ceilings={} if bounds is None else asdict(bounds.ceilings),
    )
    samples: list[Sample] = []
    async with _results(wish.out) as results:
        results.begin(conditions)

        def heard(sample: Sample) -> None:
            samples.append(sample)
            results.add(sample)
            lane.say(_line(sample))

        await Course(
            contenders=contenders,
            workloads=workloads,
            rounds=wish.rounds,
            max_attempts=wish.attempts,
            clock=lane.clock,
            entropy=SeededEntropy(wish.seed),
            heard=heard,
            say=lane.say,
            bounds=bounds,
        ).run()
    if not samples:
        raise StartupError(message="nothing was measured: every contender was left out")
    show([sample.as_json() for sample in samples], lane.console)
    subtitle = f"model {conditions.model}, {conditions.machine}, {conditions.cores} cores, {conditions.date}"
    lane.console.print(f"\n{subtitle}", style="dim", highlight=False, soft_wrap=True)
    if wish.plot is not None and samples:
        draw(summarise([sample.as_json() for sample in samples]), wish.plot, subtitle=subtitle)


def show(lines: Sequence[dict[str, object]], console: Console) -> None:
    """A table per workload."""
    summaries = summarise(lines)
    for workload in dict.fromkeys(summary.workload for summary in summaries):
        console.print()
        console.print(results_table(summaries, workload))


@asynccontextmanager
async def _results(file: Path | None) -> AsyncIterator[ResultsFile]:
    """Appended to, so that a second run does not cost the first."""
    async with AsyncExitStack() as stack:
        stream: TextIO | None = None
        if file is not None:
            stream = stack.enter_context(file.open("a", encoding="utf-8"))
        yield ResultsFile(stream)


def _line(sample: Sample) -> str:
    """A sample as it happens."""
    who = f"{sample.workload} on {sample.contender}"
    if sample.error:
        return f"  {who} failed: {sample.error}"
    shown = [name for name in SHOWN[family_of(sample.workload)] if name in sample.figures][:6]
    values = ", ".join(f"{name} {sample.figures[name]:.4g}" for name in shown)
    doubt = "" if sample.is_clean else f"  (others used {sample.foreign + sample.steal:.0%} of the machine)"
    return f"  {who}: {values}{doubt}"
