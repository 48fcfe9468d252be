"""A router's front door: the production servicers and boundary on the in-memory network, with the demo model's
tokenizer and played workers."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from common.config.sections.router import RouterSection
from common.core.entropy import SeededEntropy
from common.core.errors import BatonError
from common.core.ids import TokenId
from common.core.worker import Role
from common.observe import catalogue
from common.rpc.bind import Bind
from common.rpc.client import stream
from common.rpc.deadline import DeadlinePolicy
from common.rpc.options import Surface
from common.rpc.server import serve
from common.text.grammar.inspector import InlineInspector
from common.text.tokenizer import Tokenizer
from common.transfer.offload import InlineOffload
from protos.baton.v1 import cluster_pb2_grpc, generation_pb2, generation_pb2_grpc
from services.router.constraints import Constraints
from services.router.frontend import Frontend, generation_service
from services.router.intake import Intake
from services.router.language import Language
from services.router.operators import Operators, cluster_service
from services.router.resumption import Resumption
from services.router.validate import ModelFacts
from tests.router.build import ROUTER
from tests.router.house import House, play
from tests.sim.transport import memory_connect, memory_server

TOKENIZER = Tokenizer.load(Path("models/demo"))
MODEL = ModelFacts(name="demo", context_length=4096, vocab_size=4096, eos_token_ids=(TokenId(1),), digest=b"d" * 32)
IDS = generation_pb2.TokenIds(ids=range(1, 9))
WINDOW_S = 5.0
"""How long a resumable request waits for its client."""


class Door:
    """A router's listener and one client of it."""

    def __init__(self, house: House, channel: grpc.aio.Channel, resumption: Resumption, address: str) -> None:
        self.house = house
        self.resumption = resumption
        self.address = address
        self.clients = generation_pb2_grpc.GenerationServiceStub(channel)
        self.operators = cluster_pb2_grpc.ClusterServiceStub(channel)

    async def generate(
        self, *, timeout_s: float | None = 30.0, **fields: object
    ) -> list[generation_pb2.GenerateResponse]:
        """Every response of one request. Raises the BatonError that ended it."""
        request = generation_pb2.GenerateRequest(**fields)  # type: ignore[arg-type]
        async with stream(self.clients.Generate, request, peer="router", timeout_s=timeout_s) as responses:
            return [response async for response in responses]

    async def error_of(self, **fields: object) -> BatonError:
        with pytest.raises(BatonError) as caught:
            await self.generate(**fields)  # type: ignore[arg-type]
        return caught.value


Act = Callable[[Door], Awaitable[None]]


def at_the_door(act: Act) -> None:
    async def story(house: House) -> None:
        await house.stage.enter("p0", Role.PREFILL)
        await house.stage.enter("d0", Role.DECODE)
        await asyncio.sleep(0.1)
        language = Language(TOKENIZER)
        intake = Intake(
            model=MODEL,
            limits=RouterSection(),
            language=language,
            secret=b"s" * 32,
            clock=house.clock,
            entropy=SeededEntropy(5),
            offload=InlineOffload(),
            constraints=Constraints(InlineInspector(), max_bytes=64 * 1024),
        )
        resumption = Resumption(house.dispatcher, window_s=WINDOW_S, request_bytes=1 << 20, total_bytes=1 << 22)
        frontend = Frontend(
            intake=intake,
            dispatcher=house.dispatcher,
            resumption=resumption,
            language=language,
            clock=house.clock,
        )
        operators = Operators(
            router=ROUTER,
            fleet=house.fleet,
            mirror=house.stage.mirror,
            admission=house.admission,
            dispatcher=house.dispatcher,
            recent=house.recent,
            metrics=house.metrics,
        )
        server = await serve(
            [generation_service(frontend), cluster_service(operators)],
            Bind(),
            surface=Surface.CLIENT,
            deadlines=DeadlinePolicy(default_s=600.0, max_s=3600.0),
            make_server=memory_server(house.network, "router"),
            with_reflection=False,
        )
        async with memory_connect(house.network, "client")(server.address) as channel:
            await act(Door(house, channel, resumption, server.address))
            check_sums(house)
        await server.stop(0)
        await resumption.close()

    play(story)


def check_sums(house: House) -> None:
    """received = finished + failed + cancelled + refused, when nothing is in flight."""
    ends = (
        catalogue.REQUESTS_FINISHED,
        catalogue.REQUESTS_FAILED,
        catalogue.REQUESTS_CANCELLED,
        catalogue.REQUESTS_REFUSED,
    )
    total = sum(house.metrics.total(metric) for metric in ends)
    assert house.metrics.total(catalogue.REQUESTS_RECEIVED) == total + house.dispatcher.num_active
