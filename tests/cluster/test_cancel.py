"""Clients that leave: at every moment of a request's life its work ends everywhere, and nobody else notices."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from common.core.errors import Reason
from protos.baton.v1 import generation_pb2, generation_pb2_grpc
from services.local.answer import Answer
from services.local.topology import ROOT, Kind
from tests.cluster.drive import PAGE_BYTES, PAGE_SIZE, SLOW_SIM, check_all, counter, prompts, running_on, wait_tokens
from tests.cluster.house import CLOCK, Ask, House, Told
from tests.cluster.reference import sim_reference

pytestmark = [pytest.mark.cluster, pytest.mark.calm, pytest.mark.asyncio(loop_scope="module")]

MAX_SEQUENCES = 8
STANDARD_SEQUENCES = MAX_SEQUENCES - 1
"""Standard work leaves a place to interactive requests."""
HOUSE = {"settings": (*SLOW_SIM, f"engine.max_sequences={MAX_SEQUENCES}")}
SEED = 6201
PAGES = 10
MAX_TOKENS = 60
REACH_S = 0.5
"""The bar of F6: a cancel reaches every stage within it; pages are free within FREE_S."""
FREE_S = 2.0
SLACK_S = 1.0
"""For looking from outside, on a machine that does other things as well."""

Moment = Callable[[House, Told], Awaitable[None]]


async def at_once(cluster: House, told: Told) -> None:
    """Before any worker can have heard of it."""
    await asyncio.sleep(0)


async def reserved(cluster: House, told: Told) -> None:
    """Decode has promised the pages."""

    async def is_promised() -> bool:
        return (await cluster.status(cluster.worker(Kind.DECODE))).load.promised_pages > 0

    await cluster.until(is_promised)


def read(pages: int) -> Moment:
    """Prefill has computed so many pages."""

    async def moment(cluster: House, told: Told) -> None:
        await reaches(cluster, Kind.PREFILL, "computed_tokens", pages * PAGE_SIZE)

    return moment


def landed(pages: int) -> Moment:
    """Decode has taken over so many pages."""

    async def moment(cluster: House, told: Told) -> None:
        await reaches(cluster, Kind.DECODE, "landed_bytes", pages * PAGE_BYTES)

    return moment


def streamed(tokens: int) -> Moment:
    """The client has so many tokens."""

    async def moment(cluster: House, told: Told) -> None:
        await wait_tokens(cluster, told, tokens)

    return moment


async def reaches(cluster: House, kind: Kind, name: str, rise: float) -> None:
    goal = BASE[name] + rise

    async def is_there() -> bool:
        return await counter(cluster, kind, name) >= goal

    await cluster.until(is_there)


BASE: dict[str, float] = {}
"""Counters before the request of the running test."""


async def note_base(cluster: House) -> None:
    for name, kind in (("computed_tokens", Kind.PREFILL), ("landed_bytes", Kind.DECODE)):
        BASE[name] = await counter(cluster, kind, name)


MOMENTS: dict[str, Moment] = {
    "before any worker knows": at_once,
    "reserved": reserved,
    "prefill running": read(2),
    "transfer at 0 %": read(1),
    "transfer at 50 %": landed(PAGES // 2),
    "transfer at 100 %": landed(PAGES),
    "first token": streamed(1),
    "mid-decode": streamed(MAX_TOKENS // 2),
    "last token": streamed(MAX_TOKENS - 1),
}


@pytest.mark.parametrize("name", MOMENTS)
async def test_a_client_that_leaves_ends_its_work_everywhere(cluster: House, name: str) -> None:
    """F6: the call is cancelled. A neighbour's tokens stay what they are."""
    seed = SEED + 10 * list(MOMENTS).index(name)  # nothing is cached from an earlier moment
    neighbour, ask = prompts(2, length=PAGES * PAGE_SIZE, max_tokens=MAX_TOKENS, seed=seed)
    async with leaving(cluster, replace(neighbour, max_tokens=2000)) as (beside, end_neighbour):
        await wait_tokens(cluster, beside, 1)
        await note_base(cluster)
        async with leaving(cluster, ask) as (told, leave):
            await MOMENTS[name](cluster, told)
            left_at = CLOCK.monotonic()
            await leave()
            await reach_everywhere(cluster)
            reach_s = CLOCK.monotonic() - left_at
        heard = len(beside.tokens())
        await wait_tokens(cluster, beside, heard + 5)
        await end_neighbour()
    print(f"F6 {name}: ended everywhere after {reach_s:.2f} s, {len(told.answer.choices)} choices begun")
    tokens = beside.tokens()
    assert tokens == sim_reference().answer(replace(neighbour, max_tokens=len(tokens)))[0]
    assert reach_s <= REACH_S + SLACK_S


async def test_a_request_whose_worker_died_leaves_before_it_found_another(cluster: House) -> None:
    """F6: during migration. The only decode worker is gone; the request waits for it, and then does not any more."""
    async with leaving(cluster, prompts(1, length=64, max_tokens=200, seed=SEED + 1001)[0]) as (told, leave):
        await wait_tokens(cluster, told, 10)
        cluster.kill(Kind.DECODE)
        await cluster.until(lambda: is_queued(cluster, 1))
        await leave()
        await cluster.until(lambda: is_queued(cluster, 0), timeout_s=REACH_S + SLACK_S)


async def test_a_request_that_waits_in_the_queue_leaves_it(cluster: House) -> None:
    """F6: queued. Decode is full; the one that waits costs no worker anything."""
    crowd = prompts(STANDARD_SEQUENCES, length=8, max_tokens=100, seed=SEED + 1002)
    running = asyncio.create_task(cluster.ask_all(crowd))
    await cluster.until(lambda: is_full(cluster))
    computed = await counter(cluster, Kind.PREFILL, "prompt_tokens")
    async with leaving(cluster, prompts(1, length=64, max_tokens=8, seed=SEED + 1003)[0]) as (_, leave):
        await cluster.until(lambda: is_queued(cluster, 1))
        await leave()
        await cluster.until(lambda: is_queued(cluster, 0), timeout_s=REACH_S + SLACK_S)
    check_all(crowd, await running)
    assert await counter(cluster, Kind.PREFILL, "prompt_tokens") == computed


async def test_cancelling_twice_or_after_the_end_is_harmless(cluster: House) -> None:
    """F6: twice, and after finish. The stream ends once, with CANCELLED."""
    ask = Ask(tokens=tuple(range(100, 140)), max_tokens=100, request_id="cancel-twice")
    told = Told(answer=Answer(CLOCK))
    running = asyncio.create_task(cluster.ask(ask, told=told))
    await wait_tokens(cluster, told, 5)
    for _ in range(2):
        await cancel(cluster, ask.request_id)
    assert (await running).error is not None
    assert told.error is not None
    assert told.error.reason is Reason.CANCELLED
    await cancel(cluster, ask.request_id)
    finished = Ask(tokens=ask.tokens, max_tokens=4, request_id="cancel-late")
    check_all([finished], [await cluster.ask(finished)])
    await cancel(cluster, finished.request_id)


@pytest.mark.parametrize("phase", ["mid-prefill", "mid-decode"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_work_of_a_client_that_vanished_stops(cluster: House, phase: str, number: signal.Signals) -> None:
    """F16: killed, the kernel says so at once; frozen, only the unanswered ping tells."""
    tokens = 100 * PAGE_SIZE if phase == "mid-prefill" else 8
    computed = await counter(cluster, Kind.PREFILL, "computed_tokens")
    async with client_process(cluster, num_tokens=tokens, first=int(number)) as client:

        async def is_there() -> bool:
            if phase == "mid-prefill":
                return await counter(cluster, Kind.PREFILL, "computed_tokens") - computed >= 5 * PAGE_SIZE
            return await running_on(cluster, Kind.DECODE) > 0

        await cluster.until(is_there)
        client.send_signal(number)
        gone_at = CLOCK.monotonic()
        bar_s = 0.5 if number is signal.SIGKILL else 5.0
        await cluster.until(lambda: is_idle(cluster), timeout_s=bar_s + SLACK_S)
        print(f"F16 {phase} {number.name}: stopped after {CLOCK.monotonic() - gone_at:.2f} s (bar {bar_s} s)")


@asynccontextmanager
async def leaving(cluster: House, ask: Ask) -> AsyncIterator[tuple[Told, Callable[[], Awaitable[None]]]]:
    """A request whose client can be made to leave."""
    told = Told(answer=Answer(CLOCK))
    running = asyncio.create_task(cluster.ask(ask, told=told))
    await asyncio.sleep(0.01)

    async def leave() -> None:
        running.cancel()
        await asyncio.wait({running})

    yield told, leave
    assert running.cancelled()


@asynccontextmanager
async def client_process(
    cluster: House, *, num_tokens: int, first: int = 0
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`baton generate` in a process of its own; gone after the block."""
    prompt = ",".join(str(token % 500) for token in range(first, first + num_tokens))  # another `first`: nothing cached
    command = (sys.executable, "-m", "services.local", "generate", prompt, "--tokens", "--ignore-eos")
    client = await asyncio.create_subprocess_exec(
        *command,
        "--max-tokens=1000",
        f"--router={cluster.cluster.router_address()}",
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield client
    finally:
        if client.returncode is None:
            client.kill()
        await client.wait()


async def cancel(cluster: House, request_id: str) -> None:
    stub = generation_pb2_grpc.GenerationServiceStub(cluster.client.channel)
    await stub.CancelRequest(generation_pb2.CancelRequestRequest(request_id=request_id), timeout=2.0)


async def reach_everywhere(cluster: House) -> None:
    """Until no stage knows of more than the neighbour's one sequence on decode."""

    async def is_over() -> bool:
        prefill, decode = [(await cluster.status(process)).load for process in cluster.workers()]
        busy = prefill.running_sequences + prefill.waiting_requests + decode.waiting_requests + decode.promised_pages
        is_alone = busy == prefill.referenced_pages == 0 and decode.running_sequences == 1
        return is_alone and (await cluster.view()).active_requests == 1

    await cluster.until(is_over, timeout_s=FREE_S + SLACK_S)


async def is_idle(cluster: House) -> bool:
    """No work and no page in use anywhere."""
    loads = [(await cluster.status(process)).load for process in cluster.workers()]
    busy = sum(each.running_sequences + each.waiting_requests for each in loads)
    held = sum(each.promised_pages + each.referenced_pages for each in loads)
    return busy + held + (await cluster.view()).active_requests == 0


async def is_full(cluster: House) -> bool:
    return await running_on(cluster, Kind.DECODE) == STANDARD_SEQUENCES


async def is_queued(cluster: House, count: int) -> bool:
    return (await cluster.view()).queued_requests == count
