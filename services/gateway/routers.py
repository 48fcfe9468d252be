"""The routers behind this gateway, as one: calls over a channel that gRPC spreads over all that are there."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from common.core.clock import Clock, SystemClock
from common.core.errors import ELSEWHERE_FACT, BatonError, Reason, Unavailable
from common.rpc.client import Connect, call, stream
from common.rpc.errors import ORIGIN_FACT, TRANSPORT
from protos.baton.v1 import generation_pb2, generation_pb2_grpc
from services.gateway.reading.thoughts import CLOSE, OPEN
from services.gateway.reading.tools import ToolFormat

ASK_S = 5.0
"""Chosen: a router answers such questions in milliseconds; its tokenizer may be busy with a megabyte."""

PEER = "router"
AGAIN_AFTER_S = (0.0, 0.1, 0.4, 1.0)
"""Chosen: the other routers at once; then as long as a client takes to find a router that has just come."""
ASK_AGAIN_AFTER_S = (0.0, 0.1)
"""Chosen: the other routers at once. Whoever asks for the gateway's health waits for the answer."""
RETRY_S = 1.0
"""Chosen: no router was found within as long; a supervisor has started another by then."""

Told = TypeVar("Told")


class Routers:
    """Writer of nothing. Errors leave as the BatonErrors that routers raised, without addresses."""

    def __init__(self, target: str, connect: Connect, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._channel = connect(target)
        self._stub = generation_pb2_grpc.GenerationServiceStub(self._channel)

    async def generate(
        self, request: generation_pb2.GenerateRequest, *, timeout_s: float | None
    ) -> AsyncGenerator[generation_pb2.GenerateResponse, None]:
        """The answer as it comes. Closing the iterator cancels the request everywhere.

        A router that leaves, or is gone, before it has said a word loses nothing: the next one is asked, for what is
        left of the time.
        """
        ends_at = None if timeout_s is None else self._clock.monotonic() + timeout_s
        for wait_s in (*AGAIN_AFTER_S, None):
            has_begun = False
            try:
                left_s = None if ends_at is None else ends_at - self._clock.monotonic()
                async with stream(self._stub.Generate, request, peer=PEER, timeout_s=left_s) as responses:
                    async for response in responses:
                        has_begun = True
                        yield response
                return
            except BatonError as error:
                is_last = wait_s is None or (ends_at is not None and self._clock.monotonic() + wait_s >= ends_at)
                if has_begun or is_last or not _may_ask_another(error):
                    raise _plain(error) from None
            assert wait_s is not None
            await asyncio.sleep(wait_s)

    async def model(self) -> "Model":
        request = generation_pb2.GetModelRequest()
        said = await self._ask(lambda left_s: call(self._stub.GetModel, request, peer=PEER, timeout_s=left_s))
        is_newer = said.HasField("begins_if_thinking")
        return Model(
            name=said.name,
            context_length=said.context_length,
            tools=ToolFormat(said.tool_format) if said.tool_format in list(ToolFormat) else ToolFormat.NONE,
            thinks=said.thinks,
            begins_in_thought=said.begins_in_thought,
            thought_open=said.thought_open or OPEN,
            thought_close=said.thought_close or CLOSE,
            hides_calls=said.hides_calls,
            hides_thoughts=said.hides_thoughts,
            begins_if_thinking=said.begins_if_thinking if is_newer else said.begins_in_thought,
            begins_if_not_thinking=said.begins_if_not_thinking,
        )

    async def tokenize(self, request: generation_pb2.TokenizeRequest) -> list[int]:
        said = await self._ask(lambda left_s: call(self._stub.Tokenize, request, peer=PEER, timeout_s=left_s))
        return list(said.token_ids)

    async def spell_bare(self, requests: Sequence[generation_pb2.GenerateRequest]) -> None:
        """Texts become the ids they have without what the tokenizer frames them with: a router would add it."""
        for request in requests:
            if request.WhichOneof("prompt") == "text":
                bare = generation_pb2.TokenizeRequest(text=request.text, add_special_tokens=False)
                request.token_ids.ids.extend(await self.tokenize(bare))

    async def detokenize(self, request: generation_pb2.DetokenizeRequest) -> str:
        said = await self._ask(lambda left_s: call(self._stub.Detokenize, request, peer=PEER, timeout_s=left_s))
        return said.text

    async def _ask(self, ask: Callable[[float], Awaitable[Told]]) -> Told:
        """What any router can tell; `ask` gets the seconds left of ASK_S. Passes over one that leaves, is gone or is
        frozen."""
        ends_at = self._clock.monotonic() + ASK_S
        for wait_s in (*ASK_AGAIN_AFTER_S, None):
            try:
                return await ask(ends_at - self._clock.monotonic())
            except BatonError as error:
                if wait_s is None or not _may_ask_another(error):
                    raise _plain(error) from None
            await asyncio.sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    async def close(self) -> None:
        await self._channel.close(grace=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is served."""

    name: str
    context_length: int
    tools: ToolFormat = ToolFormat.NONE
    thinks: bool = False
    begins_in_thought: bool = False
    begins_if_thinking: bool = False
    begins_if_not_thinking: bool = False
    """Three ways of a template: where nothing is said of `enable_thinking`, where it is true, and where it is false."""
    thought_open: str = OPEN
    thought_close: str = CLOSE
    hides_calls: bool = False
    """Whether the marks of calls are special tokens, which text leaves out unless they are asked for."""
    hides_thoughts: bool = False


def _may_ask_another(error: BatonError) -> bool:
    """What was refused by a router that leaves, or that has none of the tenant's limit, was not begun; what a broken
    connection carried is cancelled there."""
    if ELSEWHERE_FACT in error.facts:
        return True
    is_transport = error.facts.get(ORIGIN_FACT) == TRANSPORT
    return isinstance(error, Unavailable) and (is_transport or error.reason is Reason.DRAINING)


def _plain(error: BatonError) -> BatonError:
    """What a client is told: an error of the transport in words for somebody who knows of no router."""
    if error.facts.get(ORIGIN_FACT) != TRANSPORT or not isinstance(error, Unavailable):
        return error
    message = "the model's router cannot be reached at the moment: try again"
    return Unavailable(message=message, reason=Reason.CHANNEL_BROKEN, facts=error.facts, retry_after_s=RETRY_S)
