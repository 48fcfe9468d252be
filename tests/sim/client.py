"""Clients of a simulated cluster: they ask, read, and sometimes go away; each is judged by the oracle."""

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum

import grpc

from common.core.errors import BatonError, Cancelled, DeadlineExceeded, Reason, Unavailable
from common.rpc.client import stream
from common.rpc.convert.fields import PRIORITIES
from common.rpc.errors import ORIGIN_FACT, TRANSPORT
from protos.baton.v1 import generation_pb2, generation_pb2_grpc, types_pb2
from services.local.answer import Answer
from tests.sim.cast import RouterActor, Stage
from tests.sim.oracle import Ask, Expected, answer
from tests.sim.timeloop import LoopClock
from tests.sim.transport import memory_connect

PATIENCE_S = 90.0
"""A client without a deadline of its own."""

RETRY_S = 0.2

MAX_TRIES = 100


class Leaving(StrEnum):
    """How a client goes away before the end."""

    HANG_UP = "hang_up"
    DIE = "die"
    ASK = "ask"
    """CancelRequest, while it still reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How a client behaves. Times in seconds since it asked."""

    starts_at: float = 0.0
    deadline_s: float | None = None
    leaves_at: float | None = None
    leaving: Leaving = Leaving.HANG_UP
    read_every_s: float = 0.0


@dataclass(slots=True)
class Told:
    """What one client saw."""

    answer: Answer
    error: BatonError | None = None
    has_left: bool = False
    num_finishes: dict[int, int] = field(default_factory=dict)
    num_usages: int = 0

    @property
    def has_lost_router(self) -> bool:
        """The connection broke, or the router was leaving: any client asks again, as a new request."""
        error = self.error
        is_lost = isinstance(error, Unavailable) and (
            error.reason is Reason.DRAINING or error.facts.get(ORIGIN_FACT) == TRANSPORT
        )
        return is_lost and not self.has_left


class Client:
    """One request, asked again only when the connection to its router broke."""

    def __init__(self, stage: Stage, ask: Ask, manners: Manners) -> None:
        self.ask = ask
        self.manners = manners
        self.told = Told(answer=Answer(LoopClock(stage.loop)))
        self.is_done = False
        self._stage = stage
        self._name = f"client {ask.name}"

    async def run(self, find_router: "FindRouter") -> None:
        """Until this client has its end: an answer, an error, or its own leave."""
        await asyncio.sleep(self.manners.starts_at)
        deadline = self._stage.loop.time() + (self.manners.deadline_s or PATIENCE_S)
        for attempt in range(MAX_TRIES):
            router = await find_router()
            self.told = Told(answer=Answer(LoopClock(self._stage.loop)))
            await self._ask_once(router, f"{self.ask.name}.{attempt}", deadline)
            self._stage.trace.say(f"{self._name} ends: {self.told.error!r}, left={self.told.has_left}")
            if not self.told.has_lost_router:
                break
            await asyncio.sleep(RETRY_S)
        self.is_done = True

    async def _ask_once(self, router: RouterActor, name: str, deadline: float) -> None:
        channel = memory_connect(self._stage.network, f"client {name}")(router.address)
        reading = asyncio.create_task(self._read(channel, name, deadline))
        done, _ = await asyncio.wait({reading}, timeout=self.manners.leaves_at)
        if not done:
            await self._leave(channel, name)
            if self.manners.leaving is Leaving.HANG_UP:
                reading.cancel()
        await asyncio.wait({reading})
        if not reading.cancelled():
            reading.result()
        await channel.close()

    async def _leave(self, channel: grpc.aio.Channel, name: str) -> None:
        self.told.has_left = True
        self._stage.trace.say(f"{self._name} leaves: {self.manners.leaving}")
        if self.manners.leaving is Leaving.DIE:
            self._stage.network.bury(f"client {name}")
        elif self.manners.leaving is Leaving.ASK:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            request = generation_pb2.CancelRequestRequest(request_id=name)
            try:
                await stub.CancelRequest(request, timeout=5.0)
            except Exception as error:  # noqa: BLE001 - the router may be gone, or never have heard of it
                self._stage.trace.say(f"{self._name} could not cancel: {type(error).__name__}")

    async def _read(self, channel: grpc.aio.Channel, name: str, deadline: float) -> None:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        timeout_s = deadline - self._stage.loop.time()
        try:
            request = message(self.ask, name)
            async with stream(stub.Generate, request, peer="router", timeout_s=timeout_s) as responses:
                async for response in responses:
                    self._take(response)
                    await asyncio.sleep(self.manners.read_every_s)
        except BatonError as error:
            self.told.error = error

    def _take(self, response: generation_pb2.GenerateResponse) -> None:
        self.told.answer.take(response)
        for delta in response.deltas:
            if delta.finish_reason:
                self.told.num_finishes[delta.choice] = self.told.num_finishes.get(delta.choice, 0) + 1
            if delta.token_ids:
                self._stage.trace.say(f"{self._name}/{delta.choice} {delta.first_index}+{list(delta.token_ids)}")
        self.told.num_usages += response.HasField("usage")

    def check(self) -> None:
        """The oracle's verdict. Whoever left or ran out of time has a prefix; everybody else has it all."""
        assert self.is_done, f"{self._name} never ended"
        expected = answer(self.ask)
        for index, choice in self.told.answer.choices.items():
            wanted = expected[index].tokens
            got = tuple(choice.tokens)
            assert got == wanted[: len(got)], f"{self._name}/{index}: {got} is no beginning of {wanted}"
        if self.told.error is None and not (self.told.has_left and self.told.num_usages == 0):
            self._check_whole(expected)
        elif self.told.error is not None:
            assert self._may_fail(self.told.error), f"{self._name} failed: {self.told.error!r}"

    def _may_fail(self, error: BatonError) -> bool:
        if self.told.has_left:
            return True
        is_late = isinstance(error, DeadlineExceeded | Cancelled) or error.reason is Reason.DEADLINE_UNREACHABLE
        return is_late and self.manners.deadline_s is not None

    def _check_whole(self, expected: tuple[Expected, ...]) -> None:
        choices = self.told.answer.choices
        assert len(choices) == self.ask.n, f"{self._name}: {len(choices)} choices of {self.ask.n}"
        for index, wanted in enumerate(expected):
            got = choices[index]
            assert tuple(got.tokens) == wanted.tokens, f"{self._name}/{index}: {got.tokens}, not {wanted.tokens}"
            assert got.text == wanted.text, f"{self._name}/{index}: {got.text!r}, not {wanted.text!r}"
            assert got.finish == wanted.finish, f"{self._name}/{index}: {got.finish}, not {wanted.finish}"
            assert self.told.num_finishes.get(index) == 1, f"{self._name}/{index}: {self.told.num_finishes} ends"
        assert self.told.num_usages == 1, f"{self._name}: {self.told.num_usages} usages"
        usage = self.told.answer.usage
        assert usage.prompt_tokens == len(self.ask.prompt)
        assert usage.completion_tokens == sum(len(wanted.tokens) for wanted in expected), f"{self._name}: {usage}"


class FindRouter:
    """Any router that serves, in turn."""

    def __init__(self, routers: "dict[str, RouterActor]") -> None:
        self._routers = routers
        self._turn = 0

    async def __call__(self) -> RouterActor:
        while True:
            serving = [router for router in self._routers.values() if router.is_serving and not router.process.is_dead]
            if serving:
                self._turn += 1
                return serving[self._turn % len(serving)]
            await asyncio.sleep(0.05)


def message(ask: Ask, name: str) -> generation_pb2.GenerateRequest:
    sampling = types_pb2.SamplingParams(
        max_tokens=ask.max_tokens,
        min_tokens=ask.min_tokens,
        n=ask.n,
        temperature=ask.temperature,
        ignore_eos=ask.ignore_eos,
        seed=ask.seed,
        stop_token_ids=ask.stop_tokens,
        stop=ask.stop_strings,
    )
    return generation_pb2.GenerateRequest(
        request_id=name,
        token_ids=generation_pb2.TokenIds(ids=ask.prompt),
        sampling=sampling,
        return_token_ids=True,
        tenant=ask.tenant,
        priority=PRIORITIES[ask.priority],
    )
