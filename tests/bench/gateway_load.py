"""What a gateway adds: `python -m tests.bench.gateway_load [--streams 500] [--rate 10] [--seconds 10] [--bursts 0]`.

A scripted router in a process of its own writes one token per stream and period, each with the moment it was written.
The same streams are read twice, in turns: directly over gRPC, and as SSE through one real gateway process. Given are
the time between two tokens of a stream both ways and its difference, how long a token was on its way, the gateway's CPU
time per chunk, and the time to the first token both ways with nothing else going on.

The moments of the streams are spread over the period; `--bursts N` has them come in N bursts, as from N decode workers
whose steps write for all of their rows. The gateway runs on the first core it may use, all else on the others.

The bound: reading a message of grpc.aio takes some 40 us of CPU on such a core, a write to a socket some 10.
"""

import argparse
import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import psutil

from common.core.clock import SystemClock
from common.core.errors import BatonError
from common.observe.announce import Phase, read_announcement
from common.rpc.bind import Bind
from common.rpc.client import Connect, grpc_connect, stream
from common.rpc.options import Surface
from common.rpc.server import Service, serve
from protos.baton.v1 import generation_pb2, generation_pb2_grpc, types_pb2
from tests.cluster.load import percentile

CLOCK = SystemClock()
CHANNELS = 4
"""Of the direct reader: one HTTP/2 connection for all would be its own bottleneck."""
START_S = 30.0


class Metronome(generation_pb2_grpc.GenerationServiceServicer):
    """One token per stream and period. The text of each is the moment when it was written."""

    def __init__(self, *, period_s: float, bursts: int) -> None:
        self._period_s = period_s
        self._bursts = bursts
        self._num_streams = 0

    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: object
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        self._num_streams += 1
        phase = self._num_streams % self._bursts / self._bursts if self._bursts else self._num_streams * 0.618034 % 1
        length = request.sampling.max_tokens
        for index in range(length):
            if index:  # the first comes at once
                now = CLOCK.monotonic() / self._period_s - phase
                await asyncio.sleep((int(now) + 1 - now) * self._period_s)
            delta = generation_pb2.ChoiceDelta(first_index=index, num_tokens=1, token_ids=[7])
            delta.text = f"{CLOCK.monotonic():.6f} "
            delta.finish_reason = types_pb2.FINISH_REASON_LENGTH if index == length - 1 else 0  # type: ignore[assignment]
            yield generation_pb2.GenerateResponse(deltas=[delta])
        yield generation_pb2.GenerateResponse(usage=types_pb2.Usage(prompt_tokens=1, completion_tokens=length))

    async def GetModel(self, request: object, context: object) -> generation_pb2.GetModelResponse:
        return generation_pb2.GetModelResponse(name="metronome", context_length=1 << 20, vocab_size=512)


async def beat(arguments: argparse.Namespace) -> None:
    """The router's process: says where it listens, and ends with its input."""
    servicer = Metronome(  # type: ignore[abstract]  # the other methods are not called
        period_s=1 / arguments.rate, bursts=arguments.bursts
    )
    add = partial(generation_pb2_grpc.add_GenerationServiceServicer_to_server, servicer)
    service = Service(name="baton.v1.GenerationService", add=add)
    server = await serve([service], Bind(host="127.0.0.1", port=0), surface=Surface.CLIENT)
    print(server.address, flush=True)
    await asyncio.to_thread(sys.stdin.read)  # bounded: by whoever started it
    await server.stop(0)


@dataclass(slots=True)
class Reader:
    """One client's tokens: when each was written and when it was here."""

    sent: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)
    error: str = ""

    def note(self, text: str) -> None:
        self.sent.append(float(text))
        self.seen.append(CLOCK.monotonic())

    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.seen[2:], self.seen[3:], strict=False)]

    def ways(self) -> list[float]:
        return [seen - sent for sent, seen in zip(self.sent[2:], self.seen[2:], strict=False)]


class Direct:
    """Straight to the router."""

    name = "direct"

    def __init__(self, address: str, connect: Connect) -> None:
        self._stubs = [generation_pb2_grpc.GenerationServiceStub(connect(address)) for _ in range(CHANNELS)]
        self._num_calls = 0

    async def read(self, length: int, reader: Reader) -> None:
        request = generation_pb2.GenerateRequest(
            model="metronome", text="x", sampling=types_pb2.SamplingParams(max_tokens=length)
        )
        self._num_calls += 1
        stub = self._stubs[self._num_calls % CHANNELS]
        try:
            async with stream(stub.Generate, request, peer="router", timeout_s=300.0) as responses:
                async for response in responses:
                    for delta in response.deltas:
                        reader.note(delta.text)
        except BatonError as error:
            reader.error = error.message


class ThroughGateway:
    """As server-sent events, read as bytes: the client must cost little."""

    name = "gateway"

    def __init__(self, address: str, path: str = "/v1/completions") -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._path = path

    async def read(self, length: int, reader: Reader) -> None:
        asked: dict[str, object] = {"stream": True, "max_tokens": length}
        asked |= (
            {"prompt": "x"} if self._path == "/v1/completions" else {"messages": [{"role": "user", "content": "x"}]}
        )
        body = json.dumps(asked).encode()
        source, sink = await asyncio.open_connection(self._host, self._port)
        try:
            head = f"POST {self._path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            sink.write(head.encode() + body)
            while line := await source.readline():  # bounded: the gateway ends it
                if line.startswith(b"data: {"):
                    text = _text(line)
                    if text.strip():
                        reader.note(text)
                elif line.startswith(b'{"error"') or (line.startswith(b"HTTP/1.1 ") and b" 200 " not in line):
                    reader.error = line.decode()
        finally:
            sink.close()


def _text(line: bytes) -> str:
    """Of the first choice, without parsing all of it."""
    for mark in (b'"text":"', b'"content":"'):
        _, found, rest = line.partition(mark)
        if found:
            return rest.partition(b'"')[0].decode()
    return ""


Way = Direct | ThroughGateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One reading of all streams."""

    gaps: list[float]
    ways: list[float]
    num_tokens: int
    num_errors: int

    def line(self) -> str:
        gaps, ways = self.gaps, self.ways
        return (
            f"ITL p50 {percentile(gaps, 0.5) * 1e3:.2f} p99 {percentile(gaps, 0.99) * 1e3:.2f} ms, on its way p50 "
            f"{percentile(ways, 0.5) * 1e3:.2f} p99 {percentile(ways, 0.99) * 1e3:.2f} ms, {self.num_errors} errors"
        )


async def read_all(way: Way, arguments: argparse.Namespace) -> Result:
    """All streams at once; they begin within a second."""
    readers = [Reader() for _ in range(arguments.streams)]
    length = int(arguments.rate * arguments.seconds)

    async def one(number: int, reader: Reader) -> None:
        await asyncio.sleep(number / len(readers))
        await way.read(length, reader)

    async with asyncio.TaskGroup() as group:
        for number, reader in enumerate(readers):
            group.create_task(one(number, reader))
    for error in {reader.error for reader in readers if reader.error}:
        print("error:", error)
    return Result(
        gaps=[gap for reader in readers for gap in reader.gaps()],
        ways=[way_s for reader in readers for way_s in reader.ways()],
        num_tokens=sum(len(reader.seen) for reader in readers),
        num_errors=sum(bool(reader.error) or len(reader.seen) != length for reader in readers),
    )


async def first_token_s(way: Way) -> float:
    reader = Reader()
    began = CLOCK.monotonic()
    await way.read(1, reader)
    return reader.seen[0] - began


async def measure(direct: Direct, through: ThroughGateway, gateway: psutil.Process, args: argparse.Namespace) -> None:
    """In turns, so that a slow minute of the machine hits both."""
    firsts: dict[str, list[float]] = {direct.name: [], through.name: []}
    for _ in range(args.firsts):
        for way in (direct, through):
            firsts[way.name].append(await first_token_s(way))
    for name, values in firsts.items():
        print(
            f"first token, {name}: p50 {percentile(values, 0.5) * 1e3:.2f} p99 {percentile(values, 0.99) * 1e3:.2f} ms"
        )
    print(f"added to the first token: {(_median(firsts[through.name]) - _median(firsts[direct.name])) * 1e3:.2f} ms")
    for _ in range(args.rounds):
        straight = await read_all(direct, args)
        before, began = sum(gateway.cpu_times()[:2]), CLOCK.monotonic()
        led = await read_all(through, args)
        cpu_s, all_s = sum(gateway.cpu_times()[:2]) - before, CLOCK.monotonic() - began
        added = percentile(led.gaps, 0.99) - percentile(straight.gaps, 0.99)
        print(f"direct:  {straight.line()}\ngateway: {led.line()}")
        print(
            f"added to ITL p99: {added * 1e3:.2f} ms; {cpu_s / max(led.num_tokens, 1) * 1e6:.0f} us of gateway CPU per "
            f"chunk, {cpu_s / all_s:.2f} cores at {led.num_tokens / all_s:.0f} chunks/s"
        )


def _median(values: Sequence[float]) -> float:
    return percentile(values, 0.5)


@asynccontextmanager
async def _child(*command: str) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", *command, stdin=PIPE, stdout=PIPE)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()  # bounded: terminated above


async def _line(child: Process) -> str:
    assert child.stdout is not None
    async with asyncio.timeout(START_S):
        return (await child.stdout.readline()).decode().strip()


async def _ready(child: Process) -> str:
    """The address of a service's process, once it serves."""
    while line := await _line(child):
        said = read_announcement(line)
        if said is not None and said.phase is Phase.READY:
            return said.address
    raise RuntimeError("the gateway did not start")


def _pin(gateway: int, others: Sequence[int]) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        for thread in psutil.Process(gateway).threads():
            os.sched_setaffinity(thread.id, cores[:1])
        for other in others:
            for thread in psutil.Process(other).threads():
                os.sched_setaffinity(thread.id, cores[1:])


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--firsts", type=int, default=100)
    parser.add_argument("--bursts", type=int, default=0)
    parser.add_argument("--path", default="/v1/completions")
    parser.add_argument("--pin", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--router", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.router:
        await beat(arguments)
        return
    async with AsyncExitStack() as stack:
        said = ("--router", f"--rate={arguments.rate}", f"--bursts={arguments.bursts}")
        router = await stack.enter_async_context(_child("tests.bench.gateway_load", *said))
        address = await _line(router)
        settings = (f"gateway.routers={address}", "listen.port=0", "listen.metrics_port=0", "listen.host=127.0.0.1")
        flags = [flag for setting in settings for flag in ("--set", setting)]
        gateway = await stack.enter_async_context(_child("services.gateway", *flags))
        http = await _ready(gateway)
        if arguments.pin:
            _pin(gateway.pid, [router.pid, os.getpid()])
        direct = Direct(address, grpc_connect(Surface.CLIENT))
        await measure(direct, ThroughGateway(http, arguments.path), psutil.Process(gateway.pid), arguments)


if __name__ == "__main__":
    asyncio.run(main())
