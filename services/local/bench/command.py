"""The flags of `baton bench`: parsed here, carried out next door."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy
from common.core.errors import BatonError
from services.local.bench.bench import Lane, Place, Wish, bench, own_contenders, show
from services.local.bench.compare import Guests, invited
from services.local.bench.decode import DecodeSpeed
from services.local.bench.end_to_end import EndToEnd
from services.local.bench.interference import Interference
from services.local.bench.kernels import measure_kernels
from services.local.bench.plot import draw
from services.local.bench.prefill import PrefillSpeed
from services.local.bench.prefix import PrefixReuse
from services.local.bench.results import read_results, summarise
from services.local.bench.transfer import TransferCost
from services.local.bench.transformers_target import TransformersContender
from services.local.bench.workload import Workload
from services.local.exits import Exit
from services.local.failure import fail, run
from services.local.flags import ConfigFile, Settings
from services.local.interrupt import Interrupt

app = typer.Typer(
    help="Measure engine, cluster and other servers.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
console = Console()

Model = Annotated[Path | None, typer.Option(help="Hugging Face folder; without it, the demo model.")]
On = Annotated[list[Place] | None, typer.Option(help="Where; repeatable. [engine and relay]", show_default=False)]
Rounds = Annotated[int, typer.Option(min=1, max=100, help="Samples of each workload, order alternating.")]
Attempts = Annotated[
    int, typer.Option(min=1, max=20, help="Of a sample while others use the machine; 1 waits for nobody.")
]
Seed = Annotated[int, typer.Option(help="Of the random prompts.")]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Append every sample as a JSON line.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw medians and ranges as PNG.")]
Lengths = Annotated[list[int] | None, typer.Option(min=2, metavar="N", help="Prompt tokens; repeatable.")]

Every = Annotated[float, typer.Option(min=0.01, metavar="SECONDS", help="Between arrivals, per 1,024 of their tokens.")]

BOTH = (Place.ENGINE, Place.RELAY)


@app.command()
def prefill(
    model: Model = None,
    on: On = None,
    prompt: Lengths = None,
    rounds: Rounds = 3,
    attempts: Attempts = 3,
    seed: Seed = 1,
    out: Out = None,
    plot: Plot = None,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """How fast a prompt is read: time to the first token."""
    wish = _wish(model, config, set_, rounds, attempts, seed, out, plot)
    _measure(wish, on or BOTH, [PrefillSpeed(prompt_tokens=length) for length in prompt or (512, 2048)])


@app.command()
def decode(
    model: Model = None,
    on: On = None,
    streams: Annotated[list[int] | None, typer.Option(min=1, metavar="N", help="At once; repeatable.")] = None,
    rounds: Rounds = 3,
    attempts: Attempts = 3,
    seed: Seed = 1,
    out: Out = None,
    plot: Plot = None,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """How fast answers are written: 64 tokens in, 128 out."""
    wish = _wish(model, config, set_, rounds, attempts, seed, out, plot)
    _measure(wish, on or BOTH, [DecodeSpeed(num_streams=number) for number in streams or (1, 8, 32)])


@app.command()
def e2e(
    model: Model = None,
    on: On = None,
    streams: Annotated[int, typer.Option(min=1, help="That begin together.")] = 64,
    prompt: Annotated[int, typer.Option(min=2, help="Tokens of each prompt.")] = 1024,
    answer: Annotated[int, typer.Option(min=2, help="Tokens of each answer.")] = 256,
    transformers: Annotated[bool, typer.Option("--transformers", help="Measure it beside, if installed.")] = False,
    rounds: Rounds = 1,
    attempts: Attempts = 1,
    seed: Seed = 1,
    out: Out = None,
    plot: Plot = None,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """Prompts and answers of many streams at once: output tokens per second."""
    wish = _wish(model, config, set_, rounds, attempts, seed, out, plot)
    load = EndToEnd(num_streams=streams, prompt_tokens=prompt, output_tokens=answer)
    _measure(wish, on or BOTH, [load], has_transformers=transformers)


@app.command()
def interference(
    model: Model = None,
    on: On = None,
    prompt: Lengths = None,
    every: Every = 1.0,
    seconds: Annotated[float, typer.Option(min=5.0, help="Of each of the two windows.")] = 60.0,
    rounds: Rounds = 1,
    attempts: Attempts = 3,
    seed: Seed = 1,
    out: Out = None,
    plot: Plot = None,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """What long prompts do to running answers, and what those do to them."""
    wish = _wish(model, config, set_, rounds, attempts, seed, out, plot)
    _measure(wish, on or (Place.RELAY,), _interferences(tuple(prompt or (1024, 2048)), every, seconds))


@app.command()
def prefix(
    model: Model = None,
    on: On = None,
    rounds: Rounds = 3,
    attempts: Attempts = 3,
    seed: Seed = 1,
    out: Out = None,
    plot: Plot = None,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """What a cached beginning saves: 1,920 of 2,048 tokens."""
    _measure(_wish(model, config, set_, rounds, attempts, seed, out, plot), on or BOTH, [PrefixReuse()])


@app.command()
def transfer(
    model: Model = None,
    prompt: Lengths = None,
    rounds: Rounds = 1,
    attempts: Attempts = 3,
    seed: Seed = 1,
    out: Out = None,
    plot: Plot = None,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """What the hand-off costs: bytes, link, its share of the first token's time, its neighbours."""
    wish = _wish(model, config, set_, rounds, attempts, seed, out, plot)
    _measure(wish, (Place.RELAY,), [TransferCost(prompt_tokens=length) for length in prompt or (1024, 2048)])


@app.command()
def compare(
    peers: Annotated[Path, typer.Option(metavar="FILE", help="How each peer is started.")],
    venvs: Annotated[Path, typer.Option(metavar="DIR", help="Folder of their virtual environments.")],
    model: Annotated[Path, typer.Option(help="Hugging Face folder that everybody serves.")],
    gguf: Annotated[Path | None, typer.Option(help="The same model, for peers that read GGUF.")] = None,
    select: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A peer; repeatable; else all.")] = None,
    on: Annotated[list[Place] | None, typer.Option(help="Baton's ways; repeatable. [all but engine]")] = None,
    workload: Annotated[list[str] | None, typer.Option(metavar="NAME", help="speed, interference or prefix.")] = None,
    every: Every = 1.0,
    seconds: Annotated[float, typer.Option(min=5.0, help="Of each window of interference.")] = 20.0,
    rounds: Rounds = 3,
    attempts: Attempts = 3,
    seed: Seed = 1,
    out: Out = None,
    plot: Plot = None,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """Baton's ways and other servers, alternated in one run."""
    wish = _wish(model, config, set_, rounds, attempts, seed, out, plot)
    guests = Guests(file=peers, venvs=venvs, gguf=None if gguf is None else gguf.resolve(), select=tuple(select or ()))
    places = on or (Place.RELAY, Place.REPLICAS, Place.COLOCATED)
    workloads: list[Workload] = []
    for kind in workload or ("speed", "interference", "prefix"):
        workloads += _workloads(kind, every, seconds)
    lane = _lane()

    async def measure() -> None:
        async with invited(guests, wish, lane) as contenders:
            await bench([*own_contenders(places, wish, lane), *contenders], workloads, wish, lane)

    _guarded(measure)


@app.command()
def kernels(
    only: Annotated[str, typer.Option(metavar="TEXT", help="Part of a case's name.")] = "",
    repeats: Annotated[int, typer.Option(min=2, max=1000, help="Runs of each case; medians are shown.")] = 30,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures as JSON.")] = None,
) -> None:
    """How close operators come to what this machine's GPU can do."""
    try:
        is_right = measure_kernels(only, repeats, out, SystemClock())
    except BatonError as error:
        raise fail(error) from error
    raise typer.Exit(Exit.OK if is_right else Exit.FAILED)


@app.command()
def report(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="What --out wrote.")],
    plot: Plot = None,
) -> None:
    """Show results again: medians and ranges of every sample in the files."""

    async def again() -> None:
        lines = [dict(line) for file in files for line in read_results(file)]
        show(lines, console)
        if plot is not None:
            draw(summarise(lines), plot, subtitle=_conditions(lines))

    run(again())


def _conditions(lines: Sequence[Mapping[str, object]]) -> str:
    """Of the first run among these lines."""
    found = next((line for line in lines if line.get("kind") == "conditions"), {})
    return ", ".join(str(found.get(name, "?")) for name in ("model", "machine", "date", "commit"))


def _workloads(kind: str, every: float, seconds: float) -> list[Workload]:
    match kind:
        case "speed":
            prefills = [PrefillSpeed(prompt_tokens=length) for length in (512, 2048)]
            return [*prefills, *(DecodeSpeed(num_streams=number) for number in (1, 8, 32))]
        case "interference":
            return _interferences((1024, 2048), every, seconds)
        case "prefix":
            return [PrefixReuse()]
        case _:
            raise typer.BadParameter(f"{kind} is none of speed, interference, prefix", param_hint="--workload")


def _interferences(lengths: tuple[int, ...], every: float, seconds: float) -> list[Workload]:
    return [Interference(arrival_tokens=length, every_s=every * length / 1024, window_s=seconds) for length in lengths]


def _wish(
    model: Path | None,
    config: Path | None,
    settings: list[str] | None,
    rounds: int,
    attempts: int,
    seed: int,
    out: Path | None,
    plot: Path | None,
) -> Wish:
    return Wish(
        model=model,
        config=config,
        settings=tuple(settings or ()),
        rounds=rounds,
        attempts=attempts,
        seed=seed,
        out=out,
        plot=plot,
    )


def _lane() -> Lane:
    return Lane(console=console, clock=SystemClock(), entropy=SystemEntropy())


def _measure(
    wish: Wish, places: Sequence[Place], workloads: Sequence[Workload], *, has_transformers: bool = False
) -> None:
    lane = _lane()

    async def measure() -> None:
        contenders = own_contenders(places, wish, lane)
        if has_transformers:
            contenders.append(TransformersContender(config=wish.loaded(), clock=lane.clock))
        await bench(contenders, workloads, wish, lane)

    _guarded(measure)


def _guarded(measure: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Until it ends or Ctrl-C. Whatever was measured by then is on file."""

    async def guarded() -> bool:
        return await Interrupt(lambda: console.print("stopping what was started")).guard(measure())

    if run(guarded()):
        raise typer.Exit(Exit.INTERRUPTED)
