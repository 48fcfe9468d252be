"""The contract of other gateways in front of real workers: called as they call it, and by a stock gateway."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.request import Request, urlopen

import grpc
import pytest

from services.local.topology import Kind
from tests.cluster.drive import SLOW_SIM, counter
from tests.cluster.house import Ask, House, house
from tests.cluster.ports import stable_port
from tests.cluster.reference import sim_reference

pb = pytest.importorskip("smg_grpc_proto.generated.vllm_engine_pb2", reason="smg-grpc-proto is not installed")
pb_grpc = pytest.importorskip("smg_grpc_proto.generated.vllm_engine_pb2_grpc")

pytestmark = [pytest.mark.cluster, pytest.mark.calm]

ASK = Ask(tokens=tuple(range(40, 140)), max_tokens=12)
PAGES = 7
SHORT = {"prompt": "Once upon a time " * 20, "max_tokens": 24, "temperature": 0}


@asynccontextmanager
async def stub(cluster: House, kind: Kind) -> AsyncIterator[Any]:
    address = (await cluster.status(cluster.worker(kind))).worker.address
    async with grpc.aio.insecure_channel(address) as channel:
        yield pb_grpc.VllmEngineStub(channel)


def prefill_leg(name: str, ask: Ask = ASK) -> Any:
    """As a stock gateway was seen to send it."""
    params = pb.SamplingParams(top_p=1.0, repetition_penalty=1.0, max_tokens=1, ignore_eos=True, n=1, temperature=0.0)
    return pb.GenerateRequest(
        request_id=name, tokenized=pb.TokenizedInput(input_ids=ask.tokens), sampling_params=params
    )


def decode_leg(name: str, params_json: str | None, ask: Ask = ASK, **sampling: Any) -> Any:
    params = pb.SamplingParams(top_p=1.0, max_tokens=ask.max_tokens, ignore_eos=True, n=1, temperature=0.0, **sampling)
    return pb.GenerateRequest(
        request_id=name,
        tokenized=pb.TokenizedInput(input_ids=ask.tokens),
        sampling_params=params,
        stream=True,
        kv_transfer_params_json=params_json,
    )


async def all_of(call: Any) -> list[Any]:
    return [response async for response in call]


@pytest.mark.timeout(120)
async def test_both_legs_by_hand() -> None:
    """Pages move once, decode reads nothing, tokens are those of one process; what was not sealed here is refused."""
    async with (
        house(settings=(*SLOW_SIM, "listen.vllm=true", "transfer.ticket_s=3")) as cluster,
        stub(cluster, Kind.PREFILL) as prefill,
        stub(cluster, Kind.DECODE) as decode,
    ):
        done = (await all_of(prefill.Generate(prefill_leg("one"))))[-1].complete
        (expected,) = sim_reference().answer(ASK)
        assert list(done.output_ids) == expected[:1]
        told = await all_of(decode.Generate(decode_leg("one", done.kv_transfer_params_json)))
        assert [token for each in told for token in each.chunk.token_ids] == expected
        assert list(told[-1].complete.output_ids) == expected
        assert told[-1].complete.finish_reason == "length"
        assert await counter(cluster, Kind.DECODE, "local_prompt_tokens") == 0
        landed = await counter(cluster, Kind.DECODE, "landed_bytes")
        assert landed == await counter(cluster, Kind.PREFILL, "gathered_bytes") == PAGES * 256
        await _refuses(decode, done.kv_transfer_params_json)
        await _aborts(cluster, prefill, decode)
        await _says_progress(prefill)


async def _refuses(decode: Any, params_json: str) -> None:
    facts = json.loads(params_json)
    for change in ({"address": "127.0.0.1:9"}, {"cached_tokens": 5}, {"seal": "00" * 32}):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await all_of(decode.Generate(decode_leg("two", json.dumps({**facts, **change}))))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError) as caught:  # sealed well, and spent
        await all_of(decode.Generate(decode_leg("two", params_json)))
    assert caught.value.code() is grpc.StatusCode.ABORTED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await all_of(decode.Generate(decode_leg("two", None, json_object=True)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def _aborts(cluster: House, prefill: Any, decode: Any) -> None:
    """Before the hand-over its pages go back; amid the answer it ends as aborted. Twice is once."""
    await all_of(prefill.Generate(prefill_leg("kept")))
    for _ in range(2):
        await prefill.Abort(pb.AbortRequest(request_ids=["kept", "unknown"]))
    assert (await cluster.status(cluster.worker(Kind.PREFILL))).load.referenced_pages == 0
    long = Ask(tokens=tuple(range(20)), max_tokens=200)
    reading = asyncio.create_task(all_of(decode.Generate(decode_leg("long", None, long))))
    await asyncio.sleep(0.5)
    for _ in range(2):
        await decode.Abort(pb.AbortRequest(request_ids=["long"]))
    told = await asyncio.wait_for(reading, 5.0)
    assert told[-1].complete.finish_reason == "abort"
    assert 0 < len(told[-1].complete.output_ids) < 200


async def _says_progress(prefill: Any) -> None:
    """2,000 tokens take 2.5 s here: a gateway hears of them every second."""
    slow = Ask(tokens=tuple(number % 500 for number in range(2000)))
    told = await all_of(prefill.Generate(prefill_leg("slow", slow)))
    assert sum(each.HasField("chunk") for each in told) >= 1
    await prefill.Abort(pb.AbortRequest(request_ids=["slow"]))


@pytest.mark.timeout(180)
@pytest.mark.skipif(shutil.which("smg") is None, reason="the stock gateway smg is not on the path")
async def test_a_stock_gateway_serves_chat_and_completions_through_our_workers() -> None:
    async with house(settings=("engine.num_pages=2048", "listen.vllm=true", "transfer.ticket_s=3")) as cluster:
        urls = [
            f"grpc://{(await cluster.status(cluster.worker(kind))).worker.address}"
            for kind in (Kind.PREFILL, Kind.DECODE)
        ]
        async with _gateway(*urls) as front:
            completion = await _post(front, "/v1/completions", SHORT)
            assert completion["choices"][0]["text"]
            assert completion["usage"]["completion_tokens"] == 24
            messages = [{"role": "user", "content": "Tell me of the sea. " * 10}]
            chat = await _post(front, "/v1/chat/completions", {"messages": messages, "max_tokens": 16})
            assert chat["choices"][0]["finish_reason"] in ("stop", "length")
            stopped = await _post(front, "/v1/completions", {**SHORT, "stop": [completion["choices"][0]["text"][9:14]]})
            assert stopped["choices"][0]["finish_reason"] == "stop"
            assert stopped["choices"][0]["text"] == completion["choices"][0]["text"][:9]
        assert await counter(cluster, Kind.DECODE, "local_prompt_tokens") == 0
        assert await counter(cluster, Kind.DECODE, "promises_filled") == 3
        landed = await counter(cluster, Kind.DECODE, "landed_bytes")
        assert 0 < landed == await counter(cluster, Kind.PREFILL, "gathered_bytes")
        assert await counter(cluster, Kind.PREFILL, "kept") == 3


@asynccontextmanager
async def _gateway(prefill: str, decode: str) -> AsyncIterator[str]:
    port = stable_port()
    arguments = ["launch", "--host", "127.0.0.1", "--port", str(port), "--prometheus-host", "127.0.0.1"]
    arguments += ["--prometheus-port", str(stable_port()), "--log-level", "warn", "--backend", "vllm"]
    arguments += ["--pd-disaggregation", "--prefill", prefill, "--decode", decode]
    process = await asyncio.create_subprocess_exec("smg", *arguments)
    front = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(60):
            while not await _lists_models(front):
                await asyncio.sleep(0.25)  # it has no event to wait for
        yield front
    finally:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10.0)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _lists_models(front: str) -> bool:
    try:
        return bool((await asyncio.to_thread(_call, Request(f"{front}/v1/models"))).get("data"))  # ours
    except OSError:
        return False


async def _post(front: str, path: str, body: dict[str, Any]) -> Any:
    data = json.dumps({"model": "demo", **body}).encode()
    request = Request(f"{front}{path}", data=data, headers={"content-type": "application/json"})  # ours
    return await asyncio.to_thread(_call, request)


def _call(request: Request) -> Any:
    with urlopen(request, timeout=60) as answer:  # ours
        return json.loads(answer.read())
