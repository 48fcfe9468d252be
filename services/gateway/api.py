"""The endpoints: what each path does with an exchange."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

from common.core.clock import Clock
from common.core.entropy import Entropy, mint_name
from common.core.errors import FieldViolation, InvalidRequest, NotFound, Reason, Unsupported
from common.observe.registry import CONTENT_TYPE, Metrics
from protos.baton.v1 import generation_pb2
from services.gateway import chat, completions
from services.gateway.answer import Answer
from services.gateway.callers import Caller
from services.gateway.calls import mint_call
from services.gateway.constraint import constraint_field
from services.gateway.exchange import Exchange, as_text, number_header
from services.gateway.frame import Frame
from services.gateway.intake import Intake
from services.gateway.places import Places
from services.gateway.routers import Model, Routers
from services.gateway.schema.body import Body
from services.gateway.schema.chat import ChatBody
from services.gateway.schema.completion import CompletionBody
from services.gateway.schema.text import DetokenizeBody, TokenizeBody
from services.gateway.translate import chat_request, completion_requests, talk_of

MODEL_S = 5.0
"""Chosen: how long a router's word on its model holds; asking costs a millisecond."""

TIMEOUT_HEADER = "baton-timeout-s"
"""How long a request may take, in seconds; absent: the router's default."""
UNSERVED = {
    "/v1/responses": "responses are not served: send the conversation to /v1/chat/completions",
    "/v1/embeddings": "embeddings are not served: the model writes text",
    "/v1/rerank": "reranking is not served: the model writes text",
    "/v1/score": "scoring is not served: /v1/completions gives log probabilities of a prompt",
    "/v1/moderations": "moderation is not served: the model writes text",
    "/v1/audio/speech": "speech is not served: the model writes text",
    "/v1/audio/transcriptions": "audio is not served: the model reads text",
    "/v1/images/generations": "images are not served: the model writes text",
}
PAGE = Path(__file__).with_name("page.html")
IGNORED_HEADER = "baton-ignored-fields"
ID_HEADER = "baton-request-id"
REQUEST_ID_HEADER = "x-request-id"
"""The client's own name for an exchange: comes back as it was. Who gave none gets ours, where its library looks."""


class Api:
    """Stateless between requests, but for the model, which is known for a few seconds."""

    def __init__(
        self,
        routers: Routers,
        *,
        places: Places,
        clock: Clock,
        entropy: Entropy,
        metrics: Metrics,
        version: str,
        is_strict: bool,
    ) -> None:
        self._routers = routers
        self._clock = clock
        self._entropy = entropy
        self._metrics = metrics
        self._version = version
        self._is_strict = is_strict
        self._intake = Intake()
        self._places = places
        self._model: Model | None = None
        self._asked_at = 0.0
        self._began = int(clock.wall())

    async def model(self) -> Model:
        """Of the routers, asked anew every MODEL_S: they may come back with another one. Raises Unavailable."""
        now = self._clock.monotonic()
        if self._model is None or now - self._asked_at > MODEL_S:
            self._asked_at = now  # first, so that one of many asks
            self._model = await self._routers.model()
        return self._model

    async def complete(self, exchange: Exchange, caller: Caller) -> None:
        raw = await exchange.body()
        body = await self._intake.read(CompletionBody, raw)
        self._note_unknown(exchange, body)
        frame = await self._frame(exchange, "cmpl", body, completions.KIND, completions.KIND)
        async with self._intake.turn(raw):
            requests = completion_requests(body)
            exchange.names["constraint"] = constraint_field(body)
        if body.add_special_tokens is False:
            await self._routers.spell_bare(requests)
        async with exchange.watched():
            answer = self._answer(exchange, caller, frame, requests, is_silent=body.max_tokens == 0)
            await _tell(exchange, completions.Completions(body, answer, frame), is_stream=body.stream)

    async def chat(self, exchange: Exchange, caller: Caller) -> None:
        raw = await exchange.body()
        body = await self._intake.read(ChatBody, raw)
        self._note_unknown(exchange, body)
        frame = await self._frame(exchange, "chatcmpl", body, chat.KIND, chat.CHUNK_KIND)
        model = await self.model()
        async with self._intake.turn(raw):
            request = chat_request(body, model)
            exchange.names["constraint"] = constraint_field(body)
        async with exchange.watched():
            answer = self._answer(exchange, caller, frame, [request])
            shapes = chat.Chat(body, answer, frame, model, mint_id=partial(mint_call, self._entropy, model.tools))
            await _tell(exchange, shapes, is_stream=body.stream)

    async def models(self, exchange: Exchange, caller: Caller) -> None:
        """The one model, where this caller may use it."""
        self._model = await self._routers.model()
        shown = [self._shown(self._model)] if caller.may_use(self._model.name) else []
        await exchange.reply({"object": "list", "data": shown})

    async def one_model(self, exchange: Exchange, caller: Caller) -> None:
        wanted = exchange.path.removeprefix("/v1/models/").removesuffix("/")
        model = await self.model()
        if wanted != model.name or not caller.may_use(model.name):
            raise NotFound(message=f"model {as_text(wanted)!r} is not served here", reason=Reason.MODEL_NOT_FOUND)
        await exchange.reply(self._shown(model))

    async def tokenize(self, exchange: Exchange, caller: Caller) -> None:
        del caller
        body = await self._intake.read(TokenizeBody, await exchange.body())
        self._note_unknown(exchange, body)
        request = generation_pb2.TokenizeRequest(add_special_tokens=body.add_special_tokens is not False)
        if body.messages is not None:
            request.chat.CopyFrom(talk_of(body, body.tools))
        else:
            request.text = body.prompt or ""
        tokens = await self._routers.tokenize(request)
        model = await self.model()
        await exchange.reply({"count": len(tokens), "max_model_len": model.context_length, "tokens": tokens})

    async def detokenize(self, exchange: Exchange, caller: Caller) -> None:
        del caller
        body = await self._intake.read(DetokenizeBody, await exchange.body())
        self._note_unknown(exchange, body)
        text = await self._routers.detokenize(
            generation_pb2.DetokenizeRequest(token_ids=body.tokens, skip_special_tokens=bool(body.skip_special_tokens))
        )
        await exchange.reply({"prompt": text})

    def unserved(self) -> dict[str, Callable[[Exchange, Caller], Awaitable[None]]]:
        """Paths that clients of this kind know, and that are answered with why they are not served."""

        def refuse(why: str) -> Callable[[Exchange, Caller], Awaitable[None]]:
            async def serve(exchange: Exchange, caller: Caller) -> None:
                del caller
                await exchange.body()  # read whole, so that the connection can be used again
                raise Unsupported(message=why)

            return serve

        return {path: refuse(why) for path, why in UNSERVED.items()}

    async def health(self, exchange: Exchange, caller: Caller) -> None:
        """Well when a router answers. Raises Unavailable otherwise."""
        del caller
        self._model = await self._routers.model()
        await exchange.reply({"status": "ok"})

    async def page(self, exchange: Exchange, caller: Caller) -> None:
        """The built-in page: one file, no build step."""
        del caller
        await exchange.page(PAGE.read_bytes(), "text/html; charset=utf-8")

    async def version(self, exchange: Exchange, caller: Caller) -> None:
        del caller
        await exchange.reply({"version": self._version})

    async def metrics(self, exchange: Exchange, caller: Caller) -> None:
        del caller
        await exchange.page(self._metrics.render(), CONTENT_TYPE)

    def _shown(self, model: Model) -> dict[str, object]:
        return {
            "id": model.name,
            "object": "model",
            "created": self._began,
            "owned_by": "baton",
            "root": model.name,
            "parent": None,
            "max_model_len": model.context_length,
        }

    async def _frame(self, exchange: Exchange, prefix: str, body: CompletionBody | ChatBody, *kinds: str) -> Frame:
        name = mint_name(self._entropy, prefix)
        exchange.headers[ID_HEADER] = name
        exchange.headers.setdefault(REQUEST_ID_HEADER, name)
        model = await self.model()
        return Frame(
            id=name,
            kind=kinds[0],
            chunk_kind=kinds[1],
            created=int(self._clock.wall()),
            model=model.name,
            options=body.stream_options,
            wants_waterfall=bool(body.waterfall),
        )

    def _answer(
        self,
        exchange: Exchange,
        caller: Caller,
        frame: Frame,
        requests: Sequence[generation_pb2.GenerateRequest],
        *,
        is_silent: bool = False,
    ) -> Answer:
        for number, request in enumerate(requests):
            request.request_id = frame.id if len(requests) == 1 else f"{frame.id}.{number}"
            caller.sign(request, model=frame.model)
        return Answer(
            self._routers,
            requests,
            places=self._places,
            timeout_s=number_header(exchange.asked, TIMEOUT_HEADER),
            is_silent=is_silent,
        )

    def _note_unknown(self, exchange: Exchange, body: Body) -> None:
        """Unknown fields are refused where that was asked for, else named in a header: never silently ignored."""
        if not body.unknown:
            return
        if self._is_strict:
            violations = tuple(FieldViolation(field=name[:200], description="unknown") for name in body.unknown[:32])
            raise InvalidRequest(message="unknown fields, and this server is strict", violations=violations)
        exchange.headers[IGNORED_HEADER] = as_text(", ".join(body.unknown))


async def _tell(exchange: Exchange, shapes: completions.Completions | chat.Chat, *, is_stream: bool | None) -> None:
    """The answer in OpenAI's shapes: as it comes, or once it is whole."""
    if not is_stream:
        await exchange.reply(await shapes.whole())
        return
    async with aclosing(shapes.events()) as events:
        await exchange.stream(events)
