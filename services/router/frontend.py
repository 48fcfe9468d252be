"""What clients call: the gRPC face of a router. Translates, hands over, writes; decides nothing."""

import asyncio
from functools import partial
from typing import TypeVar

from common.core.aftermath import again
from common.core.clock import Clock
from common.core.errors import BatonError
from common.core.ids import RequestId, TenantId, TokenId
from common.rpc.deadline import remaining_s
from common.rpc.options import LIMITS, Surface
from common.rpc.server import Service
from protos.baton.v1 import generation_pb2, generation_pb2_grpc
from services.router.dispatch import Dispatcher
from services.router.frontend_messages import asked_from_wire, chat_from_wire, resumed
from services.router.intake import DEFAULT_TENANT, Intake
from services.router.language import Language
from services.router.pen import Context
from services.router.reply import Reply, flush, missed_the_end
from services.router.request import Request
from services.router.resumption import Resumption
from services.router.validate import check_ids, refusal

MARGIN_S = 0.01
"""Chosen: a journey ends this much before its call does, so that its own reason is what the client is told."""

Answer = TypeVar("Answer", generation_pb2.TokenizeResponse, generation_pb2.DetokenizeResponse)


class Frontend(generation_pb2_grpc.GenerationServiceServicer):
    """GenerationService. Raises BatonErrors; the boundary turns them into statuses."""

    def __init__(
        self, *, intake: Intake, dispatcher: Dispatcher, resumption: Resumption, language: Language, clock: Clock
    ) -> None:
        self._intake = intake
        self._dispatcher = dispatcher
        self._resumption = resumption
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
        if wanted.is_resumable:
            await self._serve_resumable(wanted, context, allowed_s)
            return
        with self._dispatcher.enter(wanted, self._language.texts(wanted)) as journey:
            reply = Reply(journey, context, self._language)

            async def write() -> None:  # beside the journey: one that was entered is run, and so counted, to its end
                await reply.begin(allowed_s)
                await reply.write()

            async with asyncio.TaskGroup() as group:
                writer = group.create_task(write())
                await journey.run()
                is_told = await flush(writer)
        if journey.error is not None:
            raise again(journey.error)
        if not is_told:
            raise missed_the_end(wanted.id)

    async def _serve_resumable(self, wanted: Request, context: Context, allowed_s: float) -> None:
        """The journey is not this call's: it goes on when the client is lost."""
        held = self._resumption.begin(wanted, self._language.texts(wanted))
        reply = Reply(held.journey, context, self._language)
        async with held.reading():
            await reply.begin(allowed_s)
            await held.attend(reply.write)

    async def CancelRequest(
        self, request: generation_pb2.CancelRequestRequest, context: object
    ) -> generation_pb2.CancelRequestResponse:
        self._dispatcher.cancel(RequestId(request.request_id), TenantId(request.tenant or DEFAULT_TENANT))
        return generation_pb2.CancelRequestResponse()

    async def Resume(self, request: generation_pb2.ResumeRequest, context: Context) -> None:  # type: ignore[override]
        allowed_s = remaining_s()
        assert allowed_s is not None, "the boundary gives every call a deadline"
        held = self._resumption.find(request.request_id, request.tenant)
        async with held.reading():
            given = held.given_since(request.from_index)
            reply = Reply(held.journey, context, self._language, wrap=resumed)
            if any(request.from_index):
                reply.skip_prompt()
            await reply.begin(allowed_s)
            await held.attend(partial(reply.write, given))

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
        model, habits = self._intake.model, self._language.habits
        return generation_pb2.GetModelResponse(
            name=model.name,
            context_length=model.context_length,
            vocab_size=model.vocab_size,
            model_digest=model.digest,
            eos_token_ids=model.eos_token_ids,
            tool_format=habits.tool_format,
            thinks=habits.thinks,
            begins_in_thought=habits.begins_in_thought,
            thought_open=habits.thought_open,
            thought_close=habits.thought_close,
            hides_calls=habits.hides_calls,
            hides_thoughts=habits.hides_thoughts,
            begins_if_thinking=habits.begins_if_thinking,
            begins_if_not_thinking=habits.begins_if_not_thinking,
        )


def generation_service(servicer: Frontend) -> Service:
    return Service(
        name="baton.v1.GenerationService",
        add=partial(generation_pb2_grpc.add_GenerationServiceServicer_to_server, servicer),
    )


def _fitting(field: str, response: Answer) -> Answer:
    """Raises InvalidRequest where grpc would not send it, and would say so without a reason."""
    size, limit = response.ByteSize(), LIMITS[Surface.CLIENT].max_reply_bytes
    if size > limit:
        raise refusal(field, f"the answer has {size} bytes, at most {limit} can be sent: ask in parts")
    return response
