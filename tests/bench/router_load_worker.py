"""A decode worker that only writes: `python -m tests.bench.router_load_worker --rate 20 --set SECTION.KEY=VALUE ...`.

What stands before a router when the router is measured. It announces itself, takes works and writes one token of each
per period, in step, as decode's columns: a few microseconds a token, where the simulated engine takes a tenth of a
millisecond for pages, rows and samples that no router ever sees. No prompt is read; a work ends at its last token or
when it is cancelled. Not for production, and no fake for tests of behaviour: it never refuses, fails or drains.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial

from common.config.config import Config
from common.config.loader import load
from common.config.secret import read_secret
from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy, mint_epoch
from common.core.ids import WorkerId, WorkerRef
from common.core.worker import LoadReport, Member, PageCounts, Role, WorkerState
from common.directory.access import RedisUser
from common.directory.connect import connect
from common.directory.guard import Guard
from common.directory.registration import Registration
from common.directory.settings import DirectorySettings
from common.observe.event_loop import EventLoop
from common.observe.garbage import calm_collector
from common.observe.logging import get_log
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.rpc.bind import Bind
from common.rpc.convert.worker import load_to_wire, worker_to_wire
from common.rpc.options import Surface
from common.rpc.server import Service, serve
from protos.baton.v1 import decode_pb2, decode_pb2_grpc, types_pb2, worker_pb2, worker_pb2_grpc

NUM_PAGES = 1 << 24
"""As good as endless: no work waits for one."""

MAX_SEQUENCES = 16_384
TOKENS = 400
"""Token ids that are drawn in turn, from FIRST_TOKEN on: plain text of the demo model."""
FIRST_TOKEN = 100

CLOCK = SystemClock()


@dataclass(eq=False, slots=True)
class Line:
    """One work that is being written."""

    number: int
    request_id: str
    attempt: int
    next_index: int
    end: int


@dataclass(eq=False, slots=True)
class Lane:
    """One router: its works, and those that it was not told the numbers of."""

    lines: dict[str, Line] = field(default_factory=dict)
    untold: list[Line] = field(default_factory=list)
    num_given: int = 0

    def begin(self, work: types_pb2.Work) -> None:
        index = len(work.emitted_token_ids)
        number, self.num_given = self.num_given % MAX_SEQUENCES, self.num_given + 1
        line = Line(number, work.request_id, work.attempt, index, work.sampling.max_tokens)
        self.lines[line.request_id] = line
        self.untold.append(line)

    def step(self, response: worker_pb2.SubscribeResponse) -> None:
        """The next token of every line: rows, and an event where it is the last one."""
        columns = response.columns
        for line in self.untold:
            columns.lines.add(number=line.number, request_id=line.request_id, attempt=line.attempt)
        self.untold.clear()
        writing = [line for line in self.lines.values() if line.next_index < line.end - 1]
        ending = [line for line in self.lines.values() if line.next_index >= line.end - 1]
        columns.numbers.extend([line.number for line in writing])
        columns.indexes.extend([line.next_index for line in writing])
        columns.token_ids.extend([FIRST_TOKEN + (line.number + line.next_index) % TOKENS for line in writing])
        for line in writing:
            line.next_index += 1
        for line in ending:
            tokens = worker_pb2.TokensEvent(first_index=line.next_index, token_ids=[FIRST_TOKEN])
            tokens.finish_reason = types_pb2.FINISH_REASON_LENGTH
            response.events.add(request_id=line.request_id, attempt=line.attempt, tokens=tokens)
            del self.lines[line.request_id]


class Writer(worker_pb2_grpc.WorkerServiceServicer, decode_pb2_grpc.DecodeServiceServicer):
    """Owner of every lane: the event loop."""

    def __init__(self, name: str, *, rate: float) -> None:
        self.me = WorkerRef(worker=WorkerId(name), epoch=mint_epoch(SystemEntropy()), address="")
        self._period_s = 1.0 / rate
        self._lanes: dict[str, Lane] = {}
        self._steps = 0

    def describe(self) -> Member:
        return Member(
            worker=self.me,
            role=Role.DECODE,
            state=WorkerState.READY,
            load=self._load(),
            layout_fingerprint=bytes(range(32)),
        )

    def _load(self) -> LoadReport:
        return LoadReport(
            pages=PageCounts(total=NUM_PAGES, free=NUM_PAGES, promised=0, referenced=0, cached=0),
            running_sequences=sum(len(lane.lines) for lane in self._lanes.values()),
            step_seconds=self._period_s,
            steps=self._steps,
            max_sequences=MAX_SEQUENCES,
        )

    async def Subscribe(
        self, request: worker_pb2.SubscribeRequest, context: object
    ) -> AsyncIterator[worker_pb2.SubscribeResponse]:
        lane = self._lanes.setdefault(request.router.router_id, Lane())
        assert request.reads_columns, "a router of this version"
        due, sequence = CLOCK.monotonic(), 0
        while True:
            sequence += 1
            self._steps += 1
            response = worker_pb2.SubscribeResponse(worker=worker_to_wire(self.me), sequence=sequence)
            response.load.CopyFrom(load_to_wire(self._load()))
            lane.step(response)
            yield response
            due = max(due + self._period_s, CLOCK.monotonic())  # a late step is not made good for by a quick one
            await asyncio.sleep(due - CLOCK.monotonic())

    async def StartLocal(self, request: decode_pb2.StartLocalRequest, context: object) -> decode_pb2.StartLocalResponse:
        self._lanes.setdefault(request.work.router.router_id, Lane()).begin(request.work)
        return decode_pb2.StartLocalResponse()

    async def CancelWork(self, request: worker_pb2.CancelWorkRequest, context: object) -> worker_pb2.CancelWorkResponse:
        lane = self._lanes.setdefault(request.router.router_id, Lane())
        for item in request.items:
            lane.lines.pop(item.request_id, None)
        return worker_pb2.CancelWorkResponse()


async def write(config: Config, name: str, rate: float) -> None:
    """Until its input ends, as it does with whoever started it."""
    writer = Writer(name, rate=rate)  # type: ignore[abstract]  # the other methods are not called
    services = [
        Service(
            name="baton.v1.WorkerService", add=partial(worker_pb2_grpc.add_WorkerServiceServicer_to_server, writer)
        ),
        Service(
            name="baton.v1.DecodeService", add=partial(decode_pb2_grpc.add_DecodeServiceServicer_to_server, writer)
        ),
    ]
    server = await serve(services, Bind(), surface=Surface.INTERNAL)
    writer.me = WorkerRef(worker=writer.me.worker, epoch=writer.me.epoch, address=server.address)
    settings = DirectorySettings.of(config.cluster, config.liveness)
    store = connect(config.cluster, config.liveness, user=RedisUser.WORKER, secret=read_secret(config.cluster))
    metrics, log = Metrics(ProcessRole.DECODE), get_log("router_load_worker")
    guard = Guard(store, settings, clock=CLOCK, metrics=metrics, log=log)
    registration = Registration(guard, settings, clock=CLOCK, worker=writer.me, describe=writer.describe)
    async with asyncio.TaskGroup() as group:
        beats = group.create_task(registration.run())
        await asyncio.to_thread(sys.stdin.read)  # bounded: by whoever started it
        beats.cancel()
    await server.stop(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", default="decode-0")
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    calm_collector()
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(write(load(settings=arguments.set), arguments.name, arguments.rate))


if __name__ == "__main__":
    main()
