"""Bad input against real processes: the right code, every field, details always, nothing of our insides, and no harm.

Method: the gRPC rows of the bad-input table as data, sent by a client without limits of its own. Afterwards no page
was touched, and whoever sends good requests meanwhile notices nothing.
"""

import asyncio
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from common.core.errors import BatonError
from protos.baton.v1 import generation_pb2, types_pb2, worker_pb2, worker_pb2_grpc
from services.local.topology import Kind
from tests.cluster.drive import check_all, prompts
from tests.cluster.house import CLOCK, SIM, House

pytestmark = [pytest.mark.cluster, pytest.mark.calm, pytest.mark.asyncio(loop_scope="module")]

HOUSE = {"settings": (*SIM, "engine.sim_step_ms=5")}
SEED = 4201
GENERATE = "/baton.v1.GenerationService/Generate"
CANCEL = "/baton.v1.GenerationService/CancelRequest"
MIB = 1 << 20
INSIDES = re.compile(
    rb"Traceback|\.py\b|pb2|google\.protobuf\.|object at|<class|/home|/tmp|/root|127\.0\.0\.1|site-packages"
)

Sampling = types_pb2.SamplingParams
Request = generation_pb2.GenerateRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One bad request and what must be said of it. `fields` are all the violations there are, in any order."""

    name: str
    request: Message | bytes
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT
    reason: str = "INVALID_REQUEST"
    fields: tuple[str, ...] = ()
    method: str = GENERATE
    has_details: bool = True
    """False where grpc itself answers before any of our code: size and metadata limits."""


def sampled(name: str, field: str, **values: object) -> Row:
    """A request that is wrong in one sampling field only."""
    request = Request(text="a", sampling=Sampling(**values))  # type: ignore[arg-type]
    return Row(name=name, request=request, fields=(f"sampling.{field}",))


def ids(values: Sequence[int], **sampling: int) -> Request:
    return Request(token_ids=generation_pb2.TokenIds(ids=values), sampling=Sampling(**sampling))


def chat(*messages: tuple[str, str]) -> generation_pb2.ChatMessages:
    return generation_pb2.ChatMessages(
        messages=[generation_pb2.ChatMessage(role=role, content=content) for role, content in messages]
    )


NAN, INF = math.nan, math.inf


def too_large(name: str, num_bytes: int) -> Row:
    return Row(name=name, request=b"x" * num_bytes, code=grpc.StatusCode.RESOURCE_EXHAUSTED, has_details=False)


def malformed(name: str, raw: bytes) -> Row:
    return Row(name=name, request=raw, reason="MALFORMED_MESSAGE", fields=("",))


def unknown(name: str, method: str) -> Row:
    return Row(name=name, method=method, request=b"", code=grpc.StatusCode.UNIMPLEMENTED, reason="UNSUPPORTED")


def not_found(name: str, reason: str, request: Message, method: str = GENERATE) -> Row:
    return Row(name=name, method=method, request=request, code=grpc.StatusCode.NOT_FOUND, reason=reason)


def too_long(name: str, field: str, request: Message) -> Row:
    return Row(name=name, request=request, reason="CONTEXT_LENGTH_EXCEEDED", fields=(field,))


ROWS = [
    too_large("B1 a byte over 1 MiB", MIB + 1),
    too_large("B1 5 MiB", 5 * MIB),
    malformed("B2 not protobuf", b"\xff" * 20),
    malformed("B2 invalid UTF-8", b"\x1a\x02\xff\xfe"),
    malformed("B2 nested 200,000 deep", b"\xfb\x7f" * 200_000),
    unknown("B3 unknown method", "/baton.v1.GenerationService/Guess"),
    unknown("B3 unknown service", "/nobody.Knows/It"),
    unknown("B3 internal service", "/baton.v1.WorkerService/GetStatus"),
    not_found("B7 unknown model", "MODEL_NOT_FOUND", Request(text="a", model="gpt")),
    Row(name="B8 nothing at all", request=b"", fields=("prompt",)),
    Row(name="B8 empty text", request=Request(text=""), fields=("text",)),
    Row(name="B8 no messages", request=Request(chat=chat()), fields=("chat.messages",)),
    Row(name="B8 white space", request=Request(chat=chat(("user", " \n"))), fields=("chat.messages[0].content",)),
    too_long("B9 by one", "sampling.max_tokens", ids([1] * 100, max_tokens=3997)),
    too_long("B9 by a million", "sampling.max_tokens", ids([1], max_tokens=10**6)),
    too_long("B9 long prompt", "prompt", Request(text="a " * 200_000)),
    sampled("B10 zero", "max_tokens", max_tokens=0),
    sampled("B10 2^31", "max_tokens", max_tokens=1 << 31),
    sampled("B11 n of 0", "n", n=0),
    sampled("B11 n of 9", "n", n=9),
    sampled("B11 n of 10^9", "n", n=10**9),
    sampled("B11 n x max_tokens", "n", n=8, max_tokens=10**6),
    *(sampled(f"B12 {value}", "temperature", temperature=value) for value in (-0.1, 2.1, NAN, INF, -INF)),
    *(sampled(f"B13 top_p {value}", "top_p", top_p=value) for value in (0.0, 1.1, NAN)),
    sampled("B13 top_k", "top_k", top_k=1 << 31),
    sampled("B13 min_p", "min_p", min_p=NAN),
    sampled("B13 repetition", "repetition_penalty", repetition_penalty=-1.0),
    sampled("B13 frequency", "frequency_penalty", frequency_penalty=INF),
    sampled("B14 logprobs", "logprobs", logprobs=21),
    sampled("B14 prompt_logprobs", "prompt_logprobs", prompt_logprobs=21),
    sampled("B15 17 strings", "stop", stop=["x"] * 17),
    sampled("B15 1 KiB", "stop[0]", stop=["x" * 1024]),
    sampled("B15 empty string", "stop[0]", stop=[""]),
    sampled("B16 1,025 biases", "logit_bias", logit_bias=dict.fromkeys(range(1025), 1.0)),
    Row(name="B18 over the vocabulary", request=ids([1, 1 << 31]), fields=("token_ids.ids[1]",)),
    Row(name="B18 no ids", request=ids([]), fields=("token_ids.ids",)),
    Row(name="B18 a million ids", request=ids([1] * 10**6), fields=("token_ids.ids",)),
    too_large("B18 ten million ids", 10**7),
    Row(name="B22 unknown role", request=Request(chat=chat(("robot", "x"))), fields=("chat.messages[0].role",)),
    Row(name="B22 450,000 messages", request=b"\x22\xa0\xf7\x36" + b"\x0a\x00" * 450_000, fields=("chat.messages",)),
    not_found("B38 cancel of nobody", "REQUEST_NOT_FOUND", generation_pb2.CancelRequestRequest(), CANCEL),
    Row(name="B39 salt of 10 KB", request=Request(text="a", cache_salt="s" * 10_000), fields=("cache_salt",)),
    Row(name="tenant with a line break", request=Request(text="a", tenant="a\nb"), fields=("tenant",)),
    Row(name="priority of 77", request=Request(text="a", priority=77), fields=("priority",)),  # type: ignore[arg-type]
    Row(
        name="everything at once",
        request=Request(
            request_id=" ",
            tenant="\x00",
            cache_salt="s" * 999,
            priority=9,
            text="",  # type: ignore[arg-type]
            sampling=Sampling(temperature=9, top_p=9, max_tokens=0, n=0, stop=[""], min_p=3, stream_interval=999),
        ),
        fields=(
            "request_id",
            "tenant",
            "cache_salt",
            "priority",
            "text",
            "sampling.temperature",
            "sampling.top_p",
            "sampling.max_tokens",
            "sampling.n",
            "sampling.stop[0]",
            "sampling.min_p",
            "sampling.stream_interval",
        ),
    ),
]


def bare(cluster: House) -> grpc.aio.Channel:
    """A client without any limit of its own."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", MIB)]
    return grpc.aio.insecure_channel(cluster.cluster.router_address(), options=options)


async def refused(channel: grpc.aio.Channel, row: Row) -> grpc.aio.AioRpcError:
    raw = row.request if isinstance(row.request, bytes) else row.request.SerializeToString()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in channel.unary_stream(row.method)(raw, timeout=20.0):
            pass
    return caught.value


def check(row: Row, error: grpc.aio.AioRpcError) -> None:
    assert error.code() is row.code, (error.code(), error.details())
    packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    assert isinstance(packed, bytes)
    assert not INSIDES.search(packed + (error.details() or "").encode()), error.details()
    if not row.has_details:
        return
    status = status_pb2.Status.FromString(packed)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("baton", row.reason)
    listed = [violation.field for detail in status.details if detail.Unpack(bad) for violation in bad.field_violations]
    if row.name == "B22 450,000 messages":
        assert listed[0] == "chat.messages"
    else:
        assert sorted(listed) == sorted(row.fields)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_it_is_refused_with_its_reason(standing: House, row: Row) -> None:
    async with bare(standing) as channel:
        began = CLOCK.monotonic()
        check(row, await refused(channel, row))
        print(f"{row.name}: {(CLOCK.monotonic() - began) * 1000:.0f} ms")


async def test_nobody_else_notices_and_no_page_is_touched(cluster: House) -> None:
    """Every row at once, three times, beside good streams. A health check in between stays quick, judged against the
    same checks in a quiet moment."""
    quiet_s = await slowest_check(cluster, asyncio.create_task(asyncio.sleep(0.5)))
    pages = [load_of(status) for status in [await cluster.status(process) for process in cluster.workers()]]
    async with bare(cluster) as channel:
        flood = asyncio.gather(*(refused(channel, row) for row in ROWS * 3))
        busy_s = await slowest_check(cluster, flood)
        for row, error in zip(ROWS * 3, await flood, strict=True):
            check(row, error)
    assert pages == [load_of(status) for status in [await cluster.status(process) for process in cluster.workers()]]
    asks = prompts(4, length=40, max_tokens=40, seed=SEED)
    async with bare(cluster) as channel:
        told, _ = await asyncio.gather(
            cluster.ask_all(asks), asyncio.gather(*(refused(channel, row) for row in ROWS[-20:]))
        )
    check_all(asks, told)
    print(f"slowest health check: {quiet_s * 1000:.0f} ms quiet, {busy_s * 1000:.0f} ms among {3 * len(ROWS)} bad ones")
    assert busy_s < max(1.0, 20 * quiet_s)  # one request that holds up the loop for a second would show


async def slowest_check(cluster: House, while_running: "asyncio.Future[object]") -> float:
    slowest = 0.0
    async with bare(cluster) as channel:
        health = channel.unary_unary("/grpc.health.v1.Health/Check")
        while not while_running.done():
            began = CLOCK.monotonic()
            await health(b"", timeout=10.0)
            slowest = max(slowest, CLOCK.monotonic() - began)
            await asyncio.sleep(0.005)
    return slowest


def load_of(status: worker_pb2.GetStatusResponse) -> tuple[int, int, int]:
    load = status.load
    return load.free_pages, load.promised_pages, load.referenced_pages


METADATA = {
    "20 KB": (("x-a", "v" * 20_000),),
    "1,000 headers": tuple((f"x-h{index}", "value-of-some-length") for index in range(1000)),
}


@pytest.mark.parametrize("name", METADATA)
async def test_too_much_metadata_is_refused(standing: House, name: str) -> None:
    """B4."""
    async with bare(standing) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in channel.unary_stream(GENERATE)(b"", metadata=METADATA[name], timeout=10.0):
                pass
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_binary_garbage_in_a_header_is_nobodys_business(standing: House) -> None:
    """B4."""
    async with bare(standing) as channel:
        call = channel.unary_unary("/baton.v1.GenerationService/GetModel")
        assert await call(b"", metadata=(("x-a-bin", bytes(range(256))),), timeout=10.0)


@pytest.mark.parametrize("timeout_s", [0.001, 0.0, -1.0])
async def test_a_deadline_that_is_over_starts_nothing(cluster: House, timeout_s: float) -> None:
    """B32."""
    told = await cluster.ask(prompts(1, length=40, max_tokens=4, seed=SEED)[0], timeout_s=timeout_s)
    assert told.error is not None
    assert told.error.reason == "DEADLINE_EXCEEDED"


async def test_a_call_without_deadline_gets_the_servers(standing: House) -> None:
    """B31: and is told which."""
    async with bare(standing) as channel:
        call = channel.unary_stream(GENERATE)(ids([1, 2, 3], max_tokens=2).SerializeToString())
        assert dict(await call.initial_metadata())["baton-deadline-ms"] == "600000"
        async for _ in call:
            pass


async def test_a_request_id_serves_one_request_at_a_time(cluster: House) -> None:
    """B36: the first goes on; once it has ended the id may be used again."""
    async with bare(cluster) as channel:
        request = ids([1, 2, 3], max_tokens=200)
        request.request_id = "twice"
        first = channel.unary_stream(GENERATE)(request.SerializeToString(), timeout=20.0)
        await first.initial_metadata()
        row = Row(name="B36", request=request, code=grpc.StatusCode.ALREADY_EXISTS, reason="REQUEST_EXISTS")
        check(row, await refused(channel, row))
        first.cancel()

    async def is_over() -> bool:
        return (await cluster.view()).active_requests == 0

    await cluster.until(is_over)


UGLY = {
    "NUL": "a\x00b",
    "byte order mark": "\ufeffhello",
    "right to left": "\u202eabc\u202c \u05d0\u05d1",
    "a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 20,
    "the last code point": "\U0010ffff\ue000\ufffe",
    "control tokens": "<|im_start|><|im_end|><|endoftext|><s></s>",
    "a template": "{{ 7 * 7 }}{% for x in range(10**9) %}{% endfor %}",
    "a megabyte of spaces": " " * (MIB - 64),
    "a megabyte of NUL": "\x00" * (MIB - 64),
}


@pytest.mark.parametrize("name", UGLY)
async def test_any_text_becomes_ids_and_the_same_text_again(standing: House, name: str) -> None:
    """B21, B23: what a client writes is text; no control token comes of it, alone or as a message."""
    text = UGLY[name]
    async with bare(standing) as channel:
        tokenize = channel.unary_unary("/baton.v1.GenerationService/Tokenize")
        tokens = await ids_of(tokenize, generation_pb2.TokenizeRequest(text=text))
        assert min(tokens) >= NUM_CONTROL
        inside = await ids_of(tokenize, generation_pb2.TokenizeRequest(chat=chat(("user", f"x{text}x"))))
        framed = await ids_of(tokenize, generation_pb2.TokenizeRequest(chat=chat(("user", "x"))))
        assert [token for token in inside if token < NUM_CONTROL] == [token for token in framed if token < NUM_CONTROL]
        if len(text) > 1000:
            return
        detokenize = channel.unary_unary("/baton.v1.GenerationService/Detokenize")
        raw = await detokenize(generation_pb2.DetokenizeRequest(token_ids=tokens).SerializeToString(), timeout=20.0)
        assert generation_pb2.DetokenizeResponse.FromString(raw).text == text


NUM_CONTROL = 6
"""Ids below this are the demo model's control tokens."""


async def ids_of(
    tokenize: "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]", request: generation_pb2.TokenizeRequest
) -> list[int]:
    raw = await tokenize(request.SerializeToString(), timeout=20.0)
    return list(generation_pb2.TokenizeResponse.FromString(raw).token_ids)


async def test_an_answer_too_large_to_send_is_refused_by_field(standing: House) -> None:
    row = Row(
        name="Detokenize",
        method="/baton.v1.GenerationService/Detokenize",
        request=generation_pb2.DetokenizeRequest(token_ids=[552] * 500_000),
        fields=("token_ids",),
    )
    async with bare(standing) as channel:
        check(row, await refused(channel, row))


async def test_a_thousand_calls_opened_and_reset_leave_nothing(cluster: House) -> None:
    """B40. Requests balance, no page is held."""
    request = ids(range(100, 140), max_tokens=50).SerializeToString()
    async with bare(cluster) as channel:
        generate = channel.unary_stream(GENERATE)
        for after_header in (False, True):
            calls = [generate(request) for _ in range(500)]
            if after_header:
                await asyncio.wait([asyncio.ensure_future(call.initial_metadata()) for call in calls], timeout=0.5)
            await asyncio.sleep(0)
            for call in calls:
                call.cancel()
    await cluster.check_invariants()


INTERNAL = {
    "/baton.v1.DecodeService/Reserve": Kind.DECODE,
    "/baton.v1.DecodeService/Renew": Kind.DECODE,
    "/baton.v1.DecodeService/StartLocal": Kind.DECODE,
    "/baton.v1.PrefillService/Prefill": Kind.PREFILL,
    "/baton.v1.KvService/Rendezvous": Kind.DECODE,
    "/baton.v1.KvService/Offer": Kind.DECODE,
    "/baton.v1.KvService/Ack": Kind.PREFILL,
    "/baton.v1.KvService/Fetch": Kind.PREFILL,
    "/baton.v1.WorkerService/CancelWork": Kind.DECODE,
}


@pytest.mark.parametrize("method", INTERNAL)
@pytest.mark.parametrize("raw", [b"", b"\xff" * 8, b"\x0a\x02\xff\xfe"], ids=["empty", "garbage", "invalid UTF-8"])
async def test_internal_calls_refuse_what_they_cannot_use(cluster: House, method: str, raw: bytes) -> None:
    """B42, B43: the pool stays untouched, which the fixture checks."""
    process = cluster.worker(INTERNAL[method])
    assert process.last is not None
    async with grpc.aio.insecure_channel(process.last.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(method)(raw, timeout=5.0)
    assert caught.value.code() in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.FAILED_PRECONDITION,
    )
    packed = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(packed, bytes)
    assert not INSIDES.search(packed)


async def test_a_router_whose_name_another_took_starts_again(standing: House) -> None:
    """B42: no worker hears it any more. It leaves rather than keep clients waiting, and its supervisor starts it."""
    router = standing.cluster.of(Kind.ROUTER)[0]
    worker = standing.worker(Kind.DECODE)
    assert worker.last is not None
    restarts = router.restarts
    name = (await standing.view()).router.router_id
    async with grpc.aio.insecure_channel(worker.last.address) as channel:
        request = worker_pb2.SubscribeRequest(router=types_pb2.RouterRef(router_id=name, epoch=1))
        impostor = worker_pb2_grpc.WorkerServiceStub(channel).Subscribe(request, timeout=5.0)
        await impostor.read()
        impostor.cancel()

    async def serves_again() -> bool:
        if router.restarts == restarts or not router.ready.is_set():
            return False
        try:
            return len((await standing.view()).workers) == len(standing.workers())
        except BatonError:
            return False

    await standing.until(serves_again)
    await standing.ask_canary()
