"""The `baton` command: parses flags and hands over. Every command's work is in a file of its own."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from common.config.config import Config
from common.config.environment import environment
from common.config.loader import load
from common.config.table import describe
from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy
from common.core.errors import BatonError, InvalidRequest
from services.local import demo as demo_command
from services.local import doctor as doctor_command
from services.local import generate as generate_command
from services.local import top as top_command
from services.local import up as up_command
from services.local.client import router_client
from services.local.cluster import FIRST_ROUTER_PORT
from services.local.exits import EXIT_HELP, Exit, exit_for
from services.local.summary import waterfall_text
from services.local.topology import Overrides

DEFAULT_ROUTER = f"127.0.0.1:{FIRST_ROUTER_PORT}"

app = typer.Typer(
    help=f"Baton: an LLM serving cluster that reads prompts and writes answers on separate workers.\n\n{EXIT_HELP}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file; see `baton config --print`.", show_default=False)
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one value.", show_default=False)
]
Router = Annotated[str, typer.Option(envvar="BATON_ROUTER", help="Address of a router.")]
console = Console(stderr=False)
errors = Console(stderr=True)


@app.command()
def up(
    model: Annotated[Path | None, typer.Option(help="Hugging Face folder; default: the demo model.")] = None,
    prefill: Annotated[int | None, typer.Option(min=0, help="Prefill workers.")] = None,
    decode: Annotated[int | None, typer.Option(min=1, help="Decode workers.")] = None,
    routers: Annotated[int | None, typer.Option(min=1, help="Routers.")] = None,
    port: Annotated[int, typer.Option(help="Port of the first router; taken ports are replaced.")] = FIRST_ROUTER_PORT,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """Start a cluster on this machine and keep it running until Ctrl-C."""
    overrides = _overrides(config, set_, model=model, prefill=prefill, decode=decode, routers=routers)
    loaded = _load(overrides)
    clock, entropy = SystemClock(), SystemEntropy()
    raise typer.Exit(
        _run(up_command.up(loaded, overrides, console=console, clock=clock, entropy=entropy, first_router_port=port))
    )


@app.command()
def demo(config: ConfigFile = None, set_: Settings = None) -> None:
    """Start a cluster, stream one answer, show its waterfall, stop everything."""
    overrides = _overrides(config, set_)
    loaded = _load(overrides)
    _run(demo_command.demo(loaded, overrides, console=console, clock=SystemClock(), entropy=SystemEntropy()))


@app.command()
def generate(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; without it, --file or standard input.")] = None,
    file: Annotated[Path | None, typer.Option(help="Read the prompt from a file.")] = None,
    router: Router = DEFAULT_ROUTER,
    tokens: Annotated[bool, typer.Option("--tokens", help="The prompt is token ids, like 1,2,3.")] = False,
    chat: Annotated[bool, typer.Option("--chat", help="The prompt is a user's message.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
    max_tokens: Annotated[int | None, typer.Option(help="At most so many tokens.")] = None,
    min_tokens: Annotated[int | None, typer.Option(help="At least so many tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Keep the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Keep the likeliest tokens up to this mass.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same text.")] = None,
    n: Annotated[int | None, typer.Option(help="Answers to the same prompt.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; repeatable.")] = None,
    stop_token: Annotated[list[int] | None, typer.Option(help="End at this token id; repeatable.")] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Go on after end of sequence.")] = False,
    priority: Annotated[str, typer.Option(help="interactive, standard or batch.")] = "interactive",
    request_id: Annotated[str, typer.Option(help="Your own id; default: minted.")] = "",
    timeout: Annotated[float, typer.Option(help="Deadline in seconds.")] = 600.0,
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
    )

    async def send() -> None:
        request = generate_command.build_request(
            _prompt(prompt, file),
            sampling,
            is_tokens=tokens,
            is_chat=chat,
            request_id=request_id,
            priority=priority,
        )
        async with router_client(router) as client:
            await generate_command.run(client, request, timeout_s=timeout, clock=SystemClock(), as_json=as_json)

    _run(send())


@app.command()
def top(
    router: Router = DEFAULT_ROUTER,
    count: Annotated[int | None, typer.Option(help="Draw so many times, then end.")] = None,
) -> None:
    """Watch a cluster: workers, queues, pages, tokens per second, latencies."""

    async def watch() -> None:
        async with router_client(router) as client:
            await top_command.top(client, console, count=count)

    _run(watch())


@app.command()
def waterfall(request_id: str, router: Router = DEFAULT_ROUTER) -> None:
    """Show where one recent request's time went."""

    async def show() -> None:
        async with router_client(router) as client:
            found = await client.waterfall(request_id)
        console.print(waterfall_text(request_id, found.stations), highlight=False, markup=False, soft_wrap=True)

    _run(show())


@app.command()
def doctor(router: Router = DEFAULT_ROUTER, config: ConfigFile = None, set_: Settings = None) -> None:
    """Check ports, Redis, model files, layouts, and measure every link of a running cluster."""
    loaded = _load(_overrides(config, set_))
    is_healthy = _run(doctor_command.doctor(loaded, router, console=console))
    raise typer.Exit(Exit.OK if is_healthy else Exit.UNHEALTHY)


@app.command(name="config")
def show_config(
    print_: Annotated[bool, typer.Option("--print", help="Print every value with its origin.")] = True,
    reasons: Annotated[bool, typer.Option(help="Also why each default is what it is.")] = False,
    config: ConfigFile = None,
    set_: Settings = None,
) -> None:
    """Show the configuration: every value, where it came from, its unit and owner."""
    loaded = _load(_overrides(config, set_))
    columns = ["key", "value", "origin", "unit", "owner"] + (["reason"] if reasons else [])
    table = Table(*columns, box=None, pad_edge=False)
    for row in describe(loaded):
        cells = [row.key, row.value, row.origin, row.unit, row.owner] + ([row.reason] if reasons else [])
        table.add_row(*cells)
    if print_:
        console.print(table)


def _overrides(config: Path | None, settings: list[str] | None, **local: object) -> Overrides:
    keys = {"model": "model.path", "prefill": "local.prefill", "decode": "local.decode", "routers": "local.routers"}
    given = [f"{keys[name]}={value}" for name, value in local.items() if value is not None]
    return Overrides(file=config, settings=(*(settings or ()), *given))


def _load(overrides: Overrides) -> Config:
    try:
        return load(overrides.file, environment(), overrides.settings)
    except BatonError as error:
        raise _fail(error) from error


def _prompt(argument: str | None, file: Path | None) -> str:
    if argument is not None:
        return argument
    if file is None:
        return sys.stdin.read()
    try:
        return file.read_text()
    except OSError as error:
        raise InvalidRequest(message=f"{file}: {error.strerror}") from error


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a command's coroutine; errors of the tree become a message and an exit code."""
    try:
        return asyncio.run(work)
    except BatonError as error:
        raise _fail(error) from error
    except BaseExceptionGroup as group:
        found, _ = group.split(BatonError)
        if found is None:
            raise
        raise _fail(_first(found)) from group
    except KeyboardInterrupt as error:
        raise typer.Exit(Exit.INTERRUPTED) from error


def _first(group: BaseExceptionGroup[BatonError]) -> BatonError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _fail(error: BatonError) -> typer.Exit:
    errors.print(f"baton: {error.message}", style="red", highlight=False, markup=False)
    if isinstance(error, InvalidRequest):
        for violation in error.violations:
            errors.print(f"  {violation.field}: {violation.description}", highlight=False, markup=False)
    return typer.Exit(exit_for(error))
