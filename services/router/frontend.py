"""What clients call: the gRPC face of a router. Translates, hands over, writes; decides nothing."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from common.core.clock import Clock
from common.core.errors import BatonError, Unsupported
from common.core.ids import RequestId, TokenId
from common.rpc.deadline import DEADLINE_KEY, remaining_s
from common.rpc.options import LIMITS, Surface
from common.rpc.server import Service
from protos.baton.v1 import generation_pb2, generation_pb2_grpc
from services.router.dispatch import Dispatcher
from services.router.frontend_messages import asked_from_wire, chat_from_wire, delta_to_wire, last_response
from services.router.intake import Intake
from services.router.journey import Journey
from services.router.language import Language
from services.router.validate import check_ids, refusal

REQUEST_ID_KEY = "baton-request-id"
"""Initial metadata of Generate: the request's id, the client's own or a minted one."""

MARGIN_S = 0.01
"""Chosen: a journey ends this much before its call does, so that its own reason is what the client is told."""

FLUSH_S = 5.0
"""Chosen: how long the last deltas of an ended request may take to leave. The work is over by then."""

Reply = TypeVar("Reply", generation_pb2.TokenizeResponse, generation_pb2.DetokenizeResponse)

Context = Any
"""grpc.aio.ServicerContext, or the simulation's."""


class Frontend(generation_pb2_grpc.GenerationServiceServicer):
    """GenerationService. Raises BatonErrors; the boundary turns them into statuses."""

    def __init__(self, *, intake: Intake, dispatcher: Dispatcher, language: Language, clock: Clock) -> None:
        self._intake = intake
        self._dispatcher = dispatcher
        self._language = language
        self._clock = clock

    async def Generate(self, request: generation_pb2.GenerateRequest, context: Context) -> None:  # type: ignore[override]
        """Writes by itself, so that a client that goes away ends one task and all below it."""
        received = self._clock.monotonic()
        allowed_s = remaining_s()
        assert allowed_s is not None, "the boundary gives every call a deadline"
        asked = asked_from_wire(request)
        name = self._intake.name(asked)
        try:
            wanted = await self._intake.read(
                asked, name=name, received=received, deadline=received + allowed_s - MARGIN_S
            )
        except BatonError as error:
            self._dispatcher.note_turned_away(error)
            raise
        with self._dispatcher.enter(wanted, self._language.texts(wanted)) as journey:
            header = ((REQUEST_ID_KEY, name), (DEADLINE_KEY, str(round(allowed_s * 1000))))
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(_write(journey, context, header))
                await journey.run()
                await _flush(writer)
        if journey.error is not None:
            raise journey.error

    async def CancelRequest(
        self, request: generation_pb2.CancelRequestRequest, context: object
    ) -> generation_pb2.CancelRequestResponse:
        self._dispatcher.cancel(RequestId(request.request_id))
        return generation_pb2.CancelRequestResponse()

    async def Resume(self, request: generation_pb2.ResumeRequest, context: Context) -> None:  # type: ignore[override]
        raise Unsupported(message="Resume is not served by this release: send the request again")

    async def Tokenize(
        self, request: generation_pb2.TokenizeRequest, context: object
    ) -> generation_pb2.TokenizeResponse:
        match request.WhichOneof("input"):
            case "text":
                tokens = await self._intake.tokenize(request.text, add_special=request.add_special_tokens)
            case "chat":
                tokens = await self._intake.tokenize_chat(chat_from_wire(request.chat))
            case _:
                raise refusal("input", "text or chat is needed")
        return _fitting("input", generation_pb2.TokenizeResponse(token_ids=tokens))

    async def Detokenize(
        self, request: generation_pb2.DetokenizeRequest, context: object
    ) -> generation_pb2.DetokenizeResponse:
        tokens = tuple(map(TokenId, request.token_ids))
        check_ids("token_ids", tokens, self._intake.model)
        text = await self._intake.detokenize(tokens, skip_special=request.skip_special_tokens)
        return _fitting("token_ids", generation_pb2.DetokenizeResponse(text=text))

    async def GetModel(
        self, request: generation_pb2.GetModelRequest, context: object
    ) -> generation_pb2.GetModelResponse:
        model = self._intake.model
        return generation_pb2.GetModelResponse(
            name=model.name,
            context_length=model.context_length,
            vocab_size=model.vocab_size,
            model_digest=model.digest,
            eos_token_ids=model.eos_token_ids,
        )


def generation_service(servicer: Frontend) -> Service:
    return Service(
        name="baton.v1.GenerationService",
        add=partial(generation_pb2_grpc.add_GenerationServiceServicer_to_server, servicer),
    )


def _fitting(field: str, response: Reply) -> Reply:
    """Raises InvalidRequest where grpc would not send it, and would say so without a reason."""
    size, limit = response.ByteSize(), LIMITS[Surface.CLIENT].max_reply_bytes
    if size > limit:
        raise refusal(field, f"the answer has {size} bytes, at most {limit} can be sent: ask in parts")
    return response


async def _write(journey: Journey, context: Context, header: tuple[tuple[str, str], ...]) -> None:
    """Everything the client gets but the status. Held up by nothing but the client's own reading."""
    await context.send_initial_metadata(header)
    request = journey.request
    prompt_tokens = len(request.prompt)  # told once
    with suppress(BatonError):  # Generate raises it, when everything before it was written
        while (deltas := await journey.stream.read()) is not None:
            choices = [delta_to_wire(delta, with_ids=request.text.return_token_ids) for delta in deltas]
            response = generation_pb2.GenerateResponse(
                request_id=request.id, deltas=choices, prompt_tokens=prompt_tokens
            )
            await context.write(response)
            prompt_tokens = 0
        await context.write(last_response(journey.record))


async def _flush(writer: asyncio.Task[None]) -> None:
    """Waits until the client has taken what it has not read yet; not for one that does not read."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FLUSH_S):
            await writer
