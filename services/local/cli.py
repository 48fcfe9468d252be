"""The `baton` command: parses flags and hands over. Every command's work is in a file of its own."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.config.config import Config
from common.config.environment import environment
from common.config.loader import load
from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy
from common.core.errors import BatonError
from common.core.request import Priority
from services.local import calibrate as calibrate_command
from services.local import chat as chat_command
from services.local import demo as demo_command
from services.local import doctor as doctor_command
from services.local import drain as drain_command
from services.local import explain as explain_command
from services.local import generate as generate_command
from services.local import replay as replay_command
from services.local import top as top_command
from services.local import up as up_command
from services.local import waterfall as waterfall_command
from services.local.anchor import anchored
from services.local.bench.command import app as bench_app
from services.local.certificate import show_certificate
from services.local.client import router_client
from services.local.cluster import FIRST_ROUTER_PORT
from services.local.exits import Exit, exit_help
from services.local.failure import errors, fail, run
from services.local.flags import (
    DEFAULT_ROUTER,
    MAX_TIMEOUT_S,
    ConfigFile,
    RequestName,
    Router,
    SamplingFields,
    Settings,
)
from services.local.help import EXAMPLES, TITLE
from services.local.plan import plan_command
from services.local.prompt import read_prompt
from services.local.settings import print_settings
from services.local.simulate import simulate_command
from services.local.topology import Overrides

app = typer.Typer(
    help=f"{TITLE}\n\n\b\n{EXAMPLES['baton']}",
    epilog=f"\b\n{exit_help()}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
console = Console()
app.callback()(show_certificate)
app.add_typer(bench_app, name="bench")


@app.command(epilog=f"\b\n{EXAMPLES['up']}")
def up(
    model: Annotated[Path | None, typer.Option(help="Hugging Face folder; without it, the demo model.")] = None,
    prefill: Annotated[int | None, typer.Option(min=0, help="How many prefill workers.")] = None,
    decode: Annotated[int | None, typer.Option(min=1, help="How many decode workers.")] = None,
    routers: Annotated[int | None, typer.Option(min=1, help="How many routers.")] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65000, help="Port of the first router; one that is taken is replaced.")
    ] = FIRST_ROUTER_PORT,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """Start a cluster here and keep it running until Ctrl-C."""
    overrides = _anchored(_overrides(config, set_, model=model, prefill=prefill, decode=decode, routers=routers))
    loaded, clock, entropy = _load(overrides), SystemClock(), SystemEntropy()
    raise typer.Exit(
        run(up_command.up(loaded, overrides, console=console, clock=clock, entropy=entropy, first_router_port=port))
    )


@app.command()
def demo(config: ConfigFile = None, set_: Settings = None) -> None:
    """Start a cluster, stream one answer, show its times, stop."""
    overrides = _anchored(_overrides(config, set_))
    loaded, clock, entropy, port = _load(overrides), SystemClock(), SystemEntropy(), FIRST_ROUTER_PORT
    raise typer.Exit(
        run(demo_command.demo(loaded, overrides, console=console, clock=clock, entropy=entropy, first_router_port=port))
    )


@app.command(epilog=f"\b\n{EXAMPLES['generate']}")
def generate(
    prompt: Annotated[str | None, typer.Argument(help="Without it: --file, or standard input.")] = None,
    file: Annotated[Path | None, typer.Option(help="Read the prompt from a file.")] = None,
    router: Router = DEFAULT_ROUTER,
    tokens: Annotated[bool, typer.Option("--tokens", help="The prompt is token ids, like 1,2,3.")] = False,
    chat: Annotated[bool, typer.Option("--chat", help="The prompt is a user's message.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", help="At most so many tokens.")] = None,
    min_tokens: Annotated[int | None, typer.Option(metavar="N", help="At least so many tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(metavar="T", help="0 is greedy.")] = None,
    top_k: Annotated[int | None, typer.Option(metavar="K", help="Keep the K likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(metavar="P", help="Keep the likeliest up to this mass.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="Same seed, same text.")] = None,
    n: Annotated[int | None, typer.Option("-n", "--n", metavar="N", help="Answers to the same prompt.")] = None,
    stop: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="End before it; repeatable.")] = None,
    stop_token: Annotated[list[int] | None, typer.Option(metavar="ID", help="End at it; repeatable.")] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Go on after end of sequence.")] = False,
    fields: SamplingFields = None,
    priority: Annotated[Priority, typer.Option(help="Who waits for whom.")] = Priority.INTERACTIVE,
    request_id: Annotated[str, typer.Option(metavar="ID", help="Your own id; without it, a new one.")] = "",
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, max=MAX_TIMEOUT_S, help="Deadline of the answer.")
    ] = 600.0,
) -> None:
    """Send one prompt and stream its answer."""
    sampling = generate_command.Sampling(
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        n=n,
        stop=tuple(stop or ()),
        stop_token_ids=tuple(stop_token or ()),
        ignore_eos=ignore_eos,
        fields=tuple(fields or ()),
    )

    async def send() -> None:
        text = read_prompt(prompt, file)
        request = generate_command.build_request(
            text, sampling, is_tokens=tokens, is_chat=chat, request_id=request_id, priority=priority
        )
        async with router_client(router) as client:
            answer = await generate_command.run(
                client, request, timeout_s=timeout, clock=SystemClock(), as_json=as_json
            )
        if sys.stderr.isatty() and not as_json:
            errors.print(generate_command.receipt(answer), style="dim", highlight=False, soft_wrap=True)

    run(send())


@app.command()
def chat(
    router: Router = DEFAULT_ROUTER,
    system: Annotated[str, typer.Option(metavar="TEXT", help="An instruction before the conversation.")] = "",
    max_tokens: Annotated[int | None, typer.Option(metavar="N", help="At most so many tokens an answer.")] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, max=MAX_TIMEOUT_S, help="Deadline of an answer.")
    ] = 600.0,
) -> None:
    """Talk with the model; Ctrl-D leaves."""

    async def talk() -> None:
        async with router_client(router) as client:
            sitting = chat_command.Chat(
                client, console, SystemClock(), ask=lambda: console.input("[bold]> [/]"), max_tokens=max_tokens
            )
            await sitting.run(system=system, timeout_s=timeout)

    run(talk())


@app.command(epilog=f"\b\n{EXAMPLES['top']}")
def top(
    router: Router = DEFAULT_ROUTER,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="Draw so many times, then end.")] = None,
) -> None:
    """Watch workers, queues, pages, tokens per second, latencies."""

    async def watch() -> None:
        async with router_client(router) as client:
            await top_command.top(client, console, count=count, clock=SystemClock())

    run(watch())


@app.command()
def waterfall(request_id: RequestName, router: Router = DEFAULT_ROUTER) -> None:
    """Show where one recent request's time went."""

    async def show() -> None:
        async with router_client(router) as client:
            await waterfall_command.waterfall(client, request_id, console)

    run(show())


@app.command()
def explain(request_id: RequestName, router: Router = DEFAULT_ROUTER) -> None:
    """Show why a request went where it went, and what lost."""

    async def show() -> None:
        async with router_client(router) as client:
            await explain_command.explain(client, request_id, console)

    run(show())


@app.command(epilog=f"\b\n{EXAMPLES['drain']}")
def drain(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="Its name, as `baton top` shows it.")],
    grace: Annotated[float, typer.Option(min=0.0, max=3600.0, help="Seconds until what is left is cut.")] = 30.0,
    router: Router = DEFAULT_ROUTER,
) -> None:
    """Take one worker out without losing a token."""

    async def leave() -> None:
        async with router_client(router) as client:
            await drain_command.drain(client, worker, grace, console)

    run(leave())


@app.command(epilog=f"\b\n{EXAMPLES['replay']}")
def replay(
    log: Annotated[Path, typer.Argument(help="A router's decision log: <router.decision_log>/<router>.jsonl.")],
    policy: Annotated[
        str, typer.Option(metavar="NAME", help=f"One of {', '.join(replay_command.POLICIES)}.")
    ] = "recorded",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Another weight; repeatable.")
    ] = None,
) -> None:
    """Make recorded decisions again, as they were or otherwise."""
    try:
        is_same = replay_command.replay_log(log, policy, set_ or (), console)
    except BatonError as error:
        raise fail(error) from error
    raise typer.Exit(Exit.OK if is_same else Exit.FAILED)


@app.command(epilog=f"\b\n{EXAMPLES['doctor']}")
def doctor(router: Router = DEFAULT_ROUTER, config: ConfigFile = None, set_: Settings = None) -> None:
    """Check every part of a cluster and measure every link."""
    loaded = _load(_anchored(_overrides(config, set_)))
    is_healthy = run(doctor_command.doctor(loaded, router, console=console))
    raise typer.Exit(Exit.OK if is_healthy else Exit.UNHEALTHY)


app.command(name="simulate", epilog=f"\b\n{EXAMPLES['simulate']}")(simulate_command)
app.command(name="plan", epilog=f"\b\n{EXAMPLES['plan']}")(plan_command)


@app.command(epilog=f"\b\n{EXAMPLES['calibrate']}")
def calibrate(
    out: Annotated[Path, typer.Option(help="Where to write what was measured.")] = Path("calibration.json"),
    seconds: Annotated[float, typer.Option(min=1.0, help="How long to press the cluster.")] = 30.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests per second.")] = 2.0,
    check: Annotated[bool, typer.Option("--check", help="Again, against the simulator.")] = False,
    router: Router = DEFAULT_ROUTER,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """Measure a live cluster for `baton simulate`."""
    loaded = _load(_overrides(config, set_))
    effort = calibrate_command.Effort(seconds=seconds, per_s=rate, check=check)

    async def measure() -> None:
        async with router_client(router) as client:
            await calibrate_command.calibrate(
                client, effort, out, config=loaded, console=console, clock=SystemClock(), entropy=SystemEntropy()
            )

    run(measure())


@app.command(name="config", epilog=f"\b\n{EXAMPLES['config']}")
def show_config(
    _print: Annotated[bool, typer.Option("--print", help="Print every value with its origin (it always does).")] = True,
    reasons: Annotated[bool, typer.Option("--reasons", help="Also why a default is what it is.")] = False,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """Show every configuration value with its origin."""
    print_settings(_load(_overrides(config, set_)), console, with_reasons=reasons)


def _overrides(config: Path | None, settings: list[str] | None, **local: object) -> Overrides:
    keys = {"model": "model.path", "prefill": "local.prefill", "decode": "local.decode", "routers": "local.routers"}
    given = [f"{keys[name]}={value}" for name, value in local.items() if value is not None]
    return Overrides(file=None if config is None else config.resolve(), settings=(*(settings or ()), *given))


def _anchored(overrides: Overrides) -> Overrides:
    """For commands that open what paths name: they and their processes have other working directories."""
    return anchored(overrides, _load(overrides), Path.cwd())


def _load(overrides: Overrides) -> Config:
    try:
        return load(overrides.file, environment(), overrides.settings)
    except BatonError as error:
        raise fail(error) from error
