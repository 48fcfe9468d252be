"""The flags of `baton bench`: parsed here, carried out next door."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy
from common.core.errors import BatonError
from services.local.bench.bench import Lane, Place, Wish, bench, own_contenders, show
from services.local.bench.compare import Guests, invited
from services.local.bench.decode import DecodeSpeed
from services.local.bench.end_to_end import EndToEnd
from services.local.bench.flags import Plot, measured
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
from services.local.interrupt import Interrupt
from services.local.screen import console

app = typer.Typer(
    help="Measure engine, cluster and other servers.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

On = Annotated[list[Place] | None, typer.Option(help="Where; repeatable. [engine and relay]", show_default=False)]
Lengths = Annotated[list[int] | None, typer.Option(min=2, metavar="N", help="Prompt tokens; repeatable.")]

Every = Annotated[float, typer.Option(min=0.01, metavar="SECONDS", help="Between arrivals, per 1,024 of their tokens.")]

BOTH = (Place.ENGINE, Place.RELAY)


@app.command()
@measured()
def prefill(
    wish: Wish,
    on: On = None,
    prompt: Lengths = None,
) -> None:
    """How fast a prompt is read: time to the first token."""
    _measure(wish, on or BOTH, [PrefillSpeed(prompt_tokens=length) for length in prompt or (512, 2048)])


@app.command()
@measured()
def decode(
    wish: Wish,
    on: On = None,
    streams: Annotated[list[int] | None, typer.Option(min=1, metavar="N", help="At once; repeatable.")] = None,
) -> None:
    """How fast answers are written: 64 tokens in, 128 out."""
    _measure(wish, on or BOTH, [DecodeSpeed(num_streams=number) for number in streams or (1, 8, 32)])


@app.command()
@measured(rounds=1, attempts=1)
def e2e(
    wish: Wish,
    on: On = None,
    streams: Annotated[int, typer.Option(min=1, help="That begin together.")] = 64,
    prompt: Annotated[int, typer.Option(min=2, help="Tokens of each prompt.")] = 1024,
    answer: Annotated[int, typer.Option(min=2, help="Tokens of each answer.")] = 256,
    transformers: Annotated[bool, typer.Option("--transformers", help="Measure it beside, if installed.")] = False,
) -> None:
    """Prompts and answers of many streams at once: output tokens per second."""
    load = EndToEnd(num_streams=streams, prompt_tokens=prompt, output_tokens=answer)
    _measure(wish, on or BOTH, [load], has_transformers=transformers)


@app.command()
@measured(rounds=1)
def interference(
    wish: Wish,
    on: On = None,
    prompt: Lengths = None,
    every: Every = 1.0,
    seconds: Annotated[float, typer.Option(min=5.0, help="Of each of the two windows.")] = 60.0,
) -> None:
    """What long prompts do to running answers, and what those do to them."""
    _measure(wish, on or (Place.RELAY,), _interferences(tuple(prompt or (1024, 2048)), every, seconds))


@app.command()
@measured()
def prefix(
    wish: Wish,
    on: On = None,
) -> None:
    """What a cached beginning saves: 1,920 of 2,048 tokens."""
    _measure(wish, on or BOTH, [PrefixReuse()])


@app.command()
@measured(rounds=1)
def transfer(
    wish: Wish,
    prompt: Lengths = None,
) -> None:
    """What the hand-off costs: bytes, link, its share of the first token's time, its neighbours."""
    _measure(wish, (Place.RELAY,), [TransferCost(prompt_tokens=length) for length in prompt or (1024, 2048)])


@app.command()
@measured(is_shared=True)
def compare(
    wish: Wish,
    peers: Annotated[Path, typer.Option(metavar="FILE", help="How each peer is started.")],
    venvs: Annotated[Path, typer.Option(metavar="DIR", help="Folder of their virtual environments.")],
    gguf: Annotated[Path | None, typer.Option(help="The same model, for peers that read GGUF.")] = None,
    select: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A peer; repeatable; else all.")] = None,
    on: Annotated[list[Place] | None, typer.Option(help="Baton's ways; repeatable. [all but engine]")] = None,
    workload: Annotated[list[str] | None, typer.Option(metavar="NAME", help="speed, interference or prefix.")] = None,
    every: Every = 1.0,
    seconds: Annotated[float, typer.Option(min=5.0, help="Of each window of interference.")] = 20.0,
) -> None:
    """Baton's ways and other servers, alternated in one run."""
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
