"""`baton calibrate`: load on a live cluster, its own fitted timings, and how far the simulator is off with them.

A few requests one after the other, for what passes between processes; then mixed load. The workers are asked for their
timings while that load runs: what they learn of the quiet after it would be of another machine.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from common.config.config import Config
from common.core.clock import Clock
from common.core.cost.model import CostModel
from common.core.entropy import Entropy
from common.core.errors import NotFound
from common.rpc.convert.worker import load_from_wire
from protos.baton.v1 import types_pb2, worker_pb2
from services.local.client import RouterClient
from services.local.exercise import Ask, Heard, exercise, mixture, one_by_one, served
from services.local.output import check_output, writing
from services.local.workers import ask_workers
from services.simulator.calibration import Calibration, mean_cost, write_calibration
from services.simulator.fidelity import Error, compare
from services.simulator.lived import Lived, replay, settings_of
from services.simulator.overheads import fit_overheads

NUM_LOOKS = 6
"""Chosen: one every few seconds of an ordinary calibration."""

NUM_ALONE = 8
"""Chosen: a median of these is a hop within a tenth, and they take a few seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long and how hard to press the cluster; `check`: once more, against the simulator."""

    seconds: float
    per_s: float
    check: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Errors by stage: of the replay whose policy decided for itself, and of the one on the routes that were taken."""

    free: tuple[Error, ...] = ()
    as_routed: tuple[Error, ...] = ()


async def calibrate(
    client: RouterClient, effort: Effort, out: Path, *, config: Config, console: Console, clock: Clock, entropy: Entropy
) -> Checked:
    """Writes the file. Raises NotFound where no worker has fitted its timings, Refused where nothing was served,
    InvalidRequest for a file that cannot be written, before it begins.
    """
    check_output(out, "--out")
    model = await client.model()

    async def press(asks: Sequence[Ask]) -> list[Lived]:
        heard = await exercise(client, asks, vocab_size=model.vocab_size, clock=clock, entropy=entropy)
        answered = served(heard)
        if num_refused := len(heard) - len(answered):
            console.print(f"{num_refused} of {len(heard)} requests were refused, and are left out", highlight=False)
        return [_lived(one) for one in answered]

    def load() -> list[Ask]:
        return mixture(entropy, seconds=effort.seconds, per_s=effort.per_s, max_context=model.context_length)

    console.print(f"{effort.seconds:.0f} s of mixed load, {effort.per_s:g} requests a second", highlight=False)
    settings = settings_of(config)
    alone = [lived for ask in one_by_one(NUM_ALONE, max_context=model.context_length) for lived in await press([ask])]
    async with asyncio.TaskGroup() as group:
        read = group.create_task(_read_beside(client, config, effort.seconds))
        taught = await press(load())
    calibration = fit_overheads(alone, taught, read.result(), settings)
    with writing("--out"):
        write_calibration(calibration, out)
    console.print(f"{out}: {_words(calibration)}", highlight=False)
    if not effort.check:
        return Checked()
    lived = await press(load())
    checked = Checked(
        free=compare(lived, replay(lived, calibration, settings)),
        as_routed=compare(lived, replay(lived, calibration, settings, as_routed=True)),
    )
    console.print(_table(checked.free, "simulator against the cluster, medians"))
    console.print(_table(checked.as_routed, "the same on the routes that were taken"))
    return checked


async def _read_beside(client: RouterClient, config: Config, seconds: float) -> Calibration:
    """Several times while the load runs, from its middle to its end: what a worker knows fades within seconds, and one
    moment's neighbours are not those of the whole. The mean of linear costs is the cost of the mean."""
    await asyncio.sleep(seconds / 2)
    looks = []
    for _ in range(NUM_LOOKS):
        await asyncio.sleep(seconds / 2 / NUM_LOOKS)
        looks.append(await _read(client, config))
    decode, prefill = [each.decode for each in looks], [each.prefill for each in looks]
    return replace(looks[-1], decode=mean_cost(decode), prefill=mean_cost(prefill))


async def _read(client: RouterClient, config: Config) -> Calibration:
    """Every worker's own word. What passes between them is not known yet."""
    asked = await ask_workers((await client.cluster()).workers, client.connect_worker)
    statuses = [each.status for each in asked if each.status is not None]
    decodes = [each for each in statuses if each.role == types_pb2.ROLE_DECODE]
    prefills = [each for each in statuses if each.role == types_pb2.ROLE_PREFILL]
    decode = _cost(decodes, "decode")
    layout, load, engine = decodes[0].layout, load_from_wire(decodes[0].load), config.engine
    return Calibration(
        decode=decode,
        prefill=_cost(prefills, "prefill") if prefills else decode,
        num_prefill=len(prefills),
        num_decode=len(decodes),
        page_size=layout.page_size,
        num_pages=load.pages.total,
        page_bytes=layout.page_bytes,
        max_sequences=load.max_sequences or engine.max_sequences,
        step_tokens=engine.max_batch_tokens,
        chunk_tokens=engine.chunk_tokens,
        extend_tokens=engine.local_extend_tokens,
        itl_budget_s=engine.itl_budget_ms / 1000,
        hop_s=0.0,
        turn_s=0.0,
        prefill_turn_s=0.0,
        land_s=0.0,
    )


def _cost(statuses: Sequence[worker_pb2.GetStatusResponse], role: str) -> CostModel:
    """Of workers of one role: the one that knows most steps."""
    models = [model for status in statuses if (model := load_from_wire(status.load).cost) is not None]
    if not models:
        raise NotFound(message=f"no {role} worker has fitted its timings yet: press longer (--seconds)")
    return max(models, key=lambda model: model.num_steps)


def _lived(one: Heard) -> Lived:
    first = one.token_s[0] - one.sent_s
    remote = one.at("reserved") is not None
    count = len(one.token_s)
    queued, started = one.at("prefill_queued"), one.at("prefill_started")
    return Lived(
        arrived_s=one.sent_s,
        prompt_tokens=one.ask.prompt_tokens,
        output_tokens=count,
        is_remote=remote,
        ttft_s=first,
        itl_s=(one.token_s[-1] - one.token_s[0]) / (count - 1) if count > 1 else None,
        stages={
            "place": queued,
            "wait": _minus(started, queued),
            "read": _minus(one.at("first_token"), started),
            "hand_over": _minus(one.at("running"), one.at("first_token")) if remote else None,
        },
    )


def _minus(end: float | None, start: float | None) -> float | None:
    return None if end is None or start is None else end - start


def _words(calibration: Calibration) -> str:
    decode, prefill = calibration.decode, calibration.prefill
    return (
        f"decode step {decode.step_s * 1e3:.2f} ms + {decode.decode_row_s * 1e6:.0f} us a row, "
        f"prefill {prefill.extend_token_s * 1e6:.0f} us a token, hop {calibration.hop_s * 1e3:.2f} ms, "
        f"turn {calibration.turn_s * 1e3:.2f} and {calibration.prefill_turn_s * 1e3:.2f} ms, "
        f"landing {calibration.land_s * 1e3:.2f} ms; {decode.num_steps + prefill.num_steps} steps"
    )


def _table(errors: Sequence[Error], title: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", title=title)
    for head in ("stage", "requests", "live ms", "simulated ms", "error"):
        table.add_column(head, justify="left" if head == "stage" else "right")
    for each in errors:
        is_route = each.stage == "same route"
        live, said = (
            ("", f"{each.said_s:.0%}") if is_route else (f"{each.live_s * 1e3:.1f}", f"{each.said_s * 1e3:.1f}")
        )
        table.add_row(each.stage, str(each.count), live, said, "" if is_route else f"{each.error:.1%}")
    return table
