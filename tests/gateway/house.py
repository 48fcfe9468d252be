"""A real gateway on a real socket before a scripted router: what the router says is the test's, all else is real."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from starlette.types import ASGIApp

from common.config.sections.gateway import GatewaySection
from common.core.clock import SystemClock
from common.core.entropy import SeededEntropy
from common.core.errors import BatonError
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.rpc.bind import Bind
from common.rpc.client import grpc_connect
from common.rpc.options import Surface
from common.rpc.server import Service, serve
from protos.baton.v1 import generation_pb2, generation_pb2_grpc, types_pb2
from services.gateway.api import Api
from services.gateway.credentials import Door, OpenDoor
from services.gateway.places import Places
from services.gateway.routers import Routers
from services.gateway.server import http_server
from services.gateway.site import make_site
from tests.gateway.wire import HttpAnswer, ask

LIMITS = GatewaySection(max_body_bytes=64 << 10, head_s=0.5)
STOP, LENGTH = types_pb2.FINISH_REASON_STOP, types_pb2.FINISH_REASON_LENGTH

Step = generation_pb2.GenerateResponse | BatonError | asyncio.Event


@dataclass
class ScriptedRouter(generation_pb2_grpc.GenerationServiceServicer):
    """Says its script for every request: responses, waits on events, errors. Remembers what it was asked."""

    script: Sequence[Step] = ()
    habits: Mapping[str, object] = field(default_factory=dict)
    name: str = "tiny"
    asked: list[generation_pb2.GenerateRequest] = field(default_factory=list)
    counted: list[generation_pb2.TokenizeRequest] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def Generate(self, request, context):
        self.asked.append(request)
        try:
            for step in self.script:
                match step:
                    case BatonError():
                        raise step
                    case asyncio.Event():
                        await step.wait()
                    case _:
                        yield step
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def GetModel(self, request, context):
        return generation_pb2.GetModelResponse(name=self.name, context_length=64, vocab_size=100, **self.habits)

    async def Tokenize(self, request, context):
        self.counted.append(request)
        return generation_pb2.TokenizeResponse(token_ids=[len(request.text), len(request.chat.messages)])

    async def Detokenize(self, request, context):
        return generation_pb2.DetokenizeResponse(text="-".join(map(str, request.token_ids)))


@dataclass(frozen=True)
class Gateway:
    """What a test talks to."""

    router: ScriptedRouter
    address: str
    metrics: Metrics

    async def post(self, path: str, body: object, headers: Sequence[str] = ()) -> HttpAnswer:
        return await ask(self.address, "POST", path, body=body, headers=headers)

    async def get(self, path: str) -> HttpAnswer:
        return await ask(self.address, "GET", path)


@asynccontextmanager
async def gateway(
    script: Sequence[Step] = (),
    *,
    door: Door | None = None,
    habits: Mapping[str, object] | None = None,
    wrap: Callable[[ASGIApp], ASGIApp] = lambda site: site,
    **limits: object,
) -> AsyncIterator[Gateway]:
    """`wrap`: what stands around the site."""
    section = replace(LIMITS, **limits)
    router = ScriptedRouter(script, habits or {})
    add = partial(generation_pb2_grpc.add_GenerationServiceServicer_to_server, router)
    service = Service(name="baton.v1.GenerationService", add=add)
    server = await serve([service], Bind(host="127.0.0.1", port=0), surface=Surface.CLIENT)
    routers = Routers(server.address, grpc_connect(Surface.CLIENT))
    metrics, clock, entropy = Metrics(ProcessRole.GATEWAY), SystemClock(), SeededEntropy(1)
    api = Api(
        routers,
        places=Places(section.max_calls, per_exchange=section.max_calls_per_request),
        clock=clock,
        entropy=entropy,
        metrics=metrics,
        version="0",
        is_strict=section.strict,
    )
    site = make_site(api, door=door or OpenDoor(), limits=section, metrics=metrics, clock=clock, entropy=entropy)
    try:
        async with http_server(wrap(site), host="127.0.0.1", port=0, limits=section, drain_s=1) as address:
            yield Gateway(router, address, metrics)
    finally:
        await routers.close()
        await server.stop(0)


def say(
    text: str, *, choice: int = 0, first: int = 0, tokens: int = 1, finish: int = 0, prompt: int = 0, **more: object
):
    """One message with one delta."""
    delta = generation_pb2.ChoiceDelta(
        choice=choice,
        first_index=first,
        num_tokens=tokens,
        token_ids=range(first, first + tokens),
        text=text,
        finish_reason=finish,
        **more,
    )
    return generation_pb2.GenerateResponse(deltas=[delta], prompt_tokens=prompt)


def usage(prompt: int = 3, completion: int = 2, cached: int = 0) -> generation_pb2.GenerateResponse:
    """The last message."""
    counts = types_pb2.Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)
    return generation_pb2.GenerateResponse(usage=counts)


HELLO = (say("hel", prompt=3), say("lo", first=1, finish=STOP), usage())
