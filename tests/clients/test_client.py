"""The client against a router that breaks connections: each token once, errors with their reason."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import grpc
import pytest

from clients.asynchronous import AsyncBaton
from clients.channel import SERVICE_CONFIG
from clients.errors import BatonCallError
from clients.synchronous import Baton
from common.core.errors import FieldViolation, InvalidRequest, Reason, Refused
from common.rpc.bind import Bind
from common.rpc.options import Surface
from common.rpc.server import Service, serve
from protos.baton.v1 import generation_pb2, generation_pb2_grpc, types_pb2

NUM_TOKENS = 10


class BreakingRouter(generation_pb2_grpc.GenerationServiceServicer):
    """Writes NUM_TOKENS tokens and ends each call after `per_call` of them, as a broken connection would."""

    def __init__(self, *, per_call: int = NUM_TOKENS, refusal: Exception | None = None) -> None:
        self.per_call = per_call
        self.refusal = refusal
        self.resumes: list[generation_pb2.ResumeRequest] = []

    async def Generate(self, request, context):
        if self.refusal is not None:
            raise self.refusal
        async for response in self._from(0, context):
            yield response

    async def Resume(self, request, context):
        self.resumes.append(request)
        async for response in self._from(request.from_index[0] if request.from_index else 0, context):
            yield generation_pb2.ResumeResponse(response=response)

    async def GetModel(self, request, context):
        return generation_pb2.GetModelResponse(name="tiny")

    async def _from(self, first, context):
        for index in range(first, NUM_TOKENS):
            if index == first + self.per_call:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
            finish = types_pb2.FINISH_REASON_LENGTH if index == NUM_TOKENS - 1 else 0
            delta = generation_pb2.ChoiceDelta(
                first_index=index, num_tokens=1, text=f"{index} ", token_ids=[index], finish_reason=finish
            )
            yield generation_pb2.GenerateResponse(request_id="mine", deltas=[delta])
        yield generation_pb2.GenerateResponse(usage=types_pb2.Usage(completion_tokens=NUM_TOKENS))


@asynccontextmanager
async def listening(router: BreakingRouter) -> AsyncIterator[str]:
    add = partial(generation_pb2_grpc.add_GenerationServiceServicer_to_server, router)
    service = Service(name="baton.v1.GenerationService", add=add)
    server = await serve([service], Bind(host="127.0.0.1", port=0), surface=Surface.CLIENT)
    try:
        yield server.address
    finally:
        await server.stop(0)


def ask(*, resumable: bool) -> generation_pb2.GenerateRequest:
    return generation_pb2.GenerateRequest(text="hi", request_id="mine", resumable=resumable, tenant="t")


WHOLE = "".join(f"{index} " for index in range(NUM_TOKENS))


@pytest.mark.parametrize("per_call", [1, 3, NUM_TOKENS])
async def test_a_resumable_stream_is_read_once_whatever_breaks(per_call):
    router = BreakingRouter(per_call=per_call)
    async with listening(router) as address, AsyncBaton(address) as baton:
        assert await baton.text(ask(resumable=True)) == WHOLE
    assert len(router.resumes) == (NUM_TOKENS - 1) // per_call
    assert all(resume.tenant == "t" for resume in router.resumes)


async def test_the_client_without_asyncio_does_the_same():
    router = BreakingRouter(per_call=4)

    def read(address: str) -> str:
        with Baton(address) as baton:
            assert baton.model().name == "tiny"
            return baton.text(ask(resumable=True))

    async with listening(router) as address:
        assert await asyncio.to_thread(read, address) == WHOLE
    assert [list(resume.from_index) for resume in router.resumes] == [[4], [8]]


async def test_a_stream_that_is_not_resumable_ends_with_the_error():
    router = BreakingRouter(per_call=3)
    async with listening(router) as address, AsyncBaton(address) as baton:
        with pytest.raises(BatonCallError) as told:
            await baton.text(ask(resumable=False))
    assert told.value.code == "UNAVAILABLE"
    assert not router.resumes


async def test_errors_carry_reason_fields_and_when_to_retry():
    violation = FieldViolation(field="sampling.top_p", description="7 is not above 0 and at most 1")
    wrong = InvalidRequest(message="invalid: sampling.top_p", violations=(violation,))
    full = Refused(message="the queue is full", reason=Reason.QUEUE_FULL, retry_after_s=1.5)
    for refusal in (wrong, full):
        async with listening(BreakingRouter(refusal=refusal)) as address, AsyncBaton(address) as baton:
            with pytest.raises(BatonCallError) as told:
                await baton.text(ask(resumable=True))
        if refusal is wrong:
            assert told.value.violations == {"sampling.top_p": violation.description}
        else:
            assert told.value.reason == "QUEUE_FULL"
            assert told.value.retry_after_s == pytest.approx(1.5, abs=0.5)


def test_only_calls_without_side_effects_are_retried():
    methods = {name["method"] for config in SERVICE_CONFIG["methodConfig"] for name in config["name"]}
    assert methods == {"GetModel", "Tokenize", "Detokenize"}


@pytest.mark.parametrize("timeout_s", [float("inf"), 1e10, 1e300])
async def test_who_waits_for_ever_is_answered(timeout_s):
    async with listening(BreakingRouter()) as target:
        request = generation_pb2.GenerateRequest(request_id="mine")

        def read() -> str:
            with Baton(target) as baton:
                return baton.model(timeout_s=timeout_s).name + baton.text(request, timeout_s=timeout_s)

        plain = await asyncio.to_thread(read)
        async with AsyncBaton(target) as baton:
            model = await baton.model(timeout_s=timeout_s)
            assert model.name + await baton.text(request, timeout_s=timeout_s) == plain
        assert plain.startswith("tiny")


async def test_one_deadline_holds_over_all_resumes():
    """A server that breaks every call after a token, slowly: the stream ends when its time is over, not when resumes
    have had it anew."""

    class Slow(BreakingRouter):
        async def _from(self, first, context):
            await asyncio.sleep(0.3)
            async for response in super()._from(first, context):
                yield response

    router = Slow(per_call=1)
    async with listening(router) as target:
        request = generation_pb2.GenerateRequest(request_id="mine", resumable=True)

        def read() -> None:
            with Baton(target) as baton:
                list(baton.generate(request, timeout_s=1.0))

        with pytest.raises(BatonCallError) as told:
            await asyncio.to_thread(read)
        assert told.value.code == "DEADLINE_EXCEEDED"
        assert len(router.resumes) <= 4
        with pytest.raises(BatonCallError) as told:
            async with AsyncBaton(target) as baton:
                [_ async for _ in baton.generate(request, timeout_s=1.0)]
        assert told.value.code == "DEADLINE_EXCEEDED"
