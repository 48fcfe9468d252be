"""Goal: a request with every option gets the same tokens and log probabilities, whatever happens to it. Method: real
processes with the demo model and so few pages that answers are preempted, against one process without a network."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.core.errors import NotFound, Reason
from common.core.ids import Epoch, RequestId, RouterId, RouterRef, TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import TokenSampling, Work
from common.engine.batch import Batch
from common.engine.plan import BatchPlan, Extend
from common.kv.cache import PageCache
from common.kv.pool import PagePool
from common.kv.prefix import PrefixIndex
from common.rpc.client import grpc_connect, stream
from common.rpc.options import Surface
from protos.baton.v1 import generation_pb2, generation_pb2_grpc, types_pb2
from services.local.answer import Answer
from services.local.topology import Kind
from services.router.request import mint_choices
from tests.cluster.drive import running_on
from tests.cluster.house import CLOCK, House

pytestmark = [pytest.mark.cluster, pytest.mark.calm, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

MODEL = Path("models/demo")
NUM_PAGES = 64
HOUSE = {
    "prefill": 2,
    "decode": 2,
    "settings": (
        f"model.path={MODEL}",
        f"engine.num_pages={NUM_PAGES}",
        "router.resume_window_s=3",
        "router.local_prompt_tokens=64",
    ),
}
PARAMS = types_pb2.SamplingParams(
    temperature=0.9,
    top_p=0.97,
    top_k=200,
    min_p=0.001,
    max_tokens=160,
    min_tokens=8,
    ignore_eos=True,
    repetition_penalty=1.2,
    frequency_penalty=0.3,
    presence_penalty=0.1,
    logit_bias={70: 2.0, 71: -4.0},
    allowed_token_ids=range(5, 3000),
    bad_token_sequences=[types_pb2.TokenSequence(ids=(80,)), types_pb2.TokenSequence(ids=(70, 72))],
    logprobs=4,
    prompt_logprobs=2,
)
Told = list[tuple[int, TokenLogprobs]]


def prompt(length: int, number: int = 0) -> list[int]:
    return [(31 * place + 17 * number) % 3900 + 10 for place in range(length)]


def ask(name: str, ids: list[int], seed: int, **changes: object) -> generation_pb2.GenerateRequest:
    request = generation_pb2.GenerateRequest(
        request_id=name, token_ids=generation_pb2.TokenIds(ids=ids), sampling=PARAMS, return_token_ids=True
    )
    request.sampling.seed = seed
    for field, value in changes.items():
        setattr(request.sampling, field, value)
    return request


@dataclass(frozen=True, slots=True)
class Expected:
    """What one process says of a request that is alone in it."""

    tokens: Told
    prompt: Told


class Alone:
    """The demo model in this process, one request at a time, nothing cached."""

    def __init__(self) -> None:
        from common.engine.torch_executor import TorchExecutor
        from common.kv.torch_storage import TorchStorage
        from common.model.load import load_model

        model = load_model(MODEL)
        self._layout = model.decoder.spec.page_layout(page_size=16, dtype="float32", model_digest=b"")
        storage = TorchStorage(self._layout, NUM_PAGES)
        self._executor = TorchExecutor(model.decoder, storage, clock=CLOCK, num_threads=1)
        self._eos = model.description.generation.eos_ids

    def answer(self, request: generation_pb2.GenerateRequest) -> Expected:
        cache = PageCache(PagePool(NUM_PAGES), PrefixIndex(), page_size=16)
        batch = Batch(cache=cache, executor=self._executor, layout=self._layout, eos_ids=self._eos)
        each = batch.add(_work(request), arrived=0.0)
        batch.begin(each)
        tokens: Told = []
        scores: list[TokenLogprobs] = []
        while each in batch:
            outcome = batch.run(BatchPlan(extend=(Extend(sequence=each, num_tokens=batch[each].num_pending),)))
            for scored in outcome.scored:
                scores += scored.logprobs
            for draw in outcome.drawn:
                assert draw.logprobs is not None
                tokens.append((draw.token, draw.logprobs))
            batch.proceed(outcome.drawn)
        return Expected(tokens=tokens, prompt=list(zip(list(request.token_ids.ids)[1:], scores, strict=True)))


def _work(request: generation_pb2.GenerateRequest) -> Work:
    """As the router would make it."""
    params = request.sampling
    sampling = TokenSampling(
        **{
            name: getattr(params, name)
            for name in ("temperature", "top_p", "top_k", "min_p", "max_tokens", "min_tokens")
        },
        **{name: getattr(params, name) for name in ("repetition_penalty", "frequency_penalty", "presence_penalty")},
        ignore_eos=True,
        logit_bias=tuple((TokenId(token), bias) for token, bias in sorted(params.logit_bias.items())),
        allowed_ids=tuple(map(TokenId, params.allowed_token_ids)),
        bad_words=tuple(tuple(map(TokenId, word.ids)) for word in params.bad_token_sequences),
        logprobs=params.logprobs,
        prompt_logprobs=params.prompt_logprobs,
    )
    return Work(
        request=RequestId("alone"),
        attempt=1,
        prompt=tuple(map(TokenId, request.token_ids.ids)),
        choices=mint_choices(params.seed, 1),
        sampling=sampling,
        deadline=1e12,
        cache_scope=bytes(32),
        router=RouterRef(RouterId("alone"), Epoch(1)),
    )


@pytest.fixture(scope="module")
def alone() -> Alone:
    return Alone()


async def send(cluster: House, request: generation_pb2.GenerateRequest) -> Answer:
    answer = Answer(CLOCK)
    async for response in cluster.client.generate(request, timeout_s=120.0):
        answer.take(response)
    return answer


def told(scores: list[generation_pb2.ScoredToken]) -> Told:
    return [
        (
            score.chosen.token_id,
            TokenLogprobs(
                logprob=score.chosen.logprob,
                rank=score.chosen.rank,
                top_ids=tuple(TokenId(other.token_id) for other in score.top),
                top_logprobs=tuple(other.logprob for other in score.top),
            ),
        )
        for score in scores
    ]


def check(answer: Answer, expected: Expected) -> None:
    choice = answer.choices[0]
    assert choice.tokens == [token for token, _own in expected.tokens]
    assert told(choice.logprobs) == expected.tokens
    assert told(answer.prompt_logprobs) == expected.prompt
    offsets = [score.text_offset for score in choice.logprobs]
    assert offsets == sorted(offsets)
    assert offsets[-1] <= len(choice.text)


async def test_all_options_at_once_on_both_routes_and_preempted(cluster: House, alone: Alone) -> None:
    """Twelve answers of up to 260 tokens in 2 x 1,024 slots: short prompts are read on decode, long ones elsewhere, and
    pages run out on the way."""
    asks = [ask(f"all-{number}", prompt(20 if number % 2 else 100, number), seed=number) for number in range(12)]
    answers = await asyncio.gather(*(send(cluster, request) for request in asks))
    for request, answer in zip(asks, answers, strict=True):
        check(answer, alone.answer(request))
    decode = await cluster.counters(Kind.DECODE)
    totals = {
        name: sum(each[name] for each in decode) for name in ("preemptions", "promises_filled", "local_prompt_tokens")
    }
    print(f"seeds 0 to 11: {totals}")
    assert totals["promises_filled"] > 0
    assert totals["preemptions"] > 0


async def test_the_same_after_the_death_of_a_decode_worker(cluster: House, alone: Alone) -> None:
    asks = [ask(f"kill-{number}", prompt(60, 40 + number), seed=number, max_tokens=200) for number in range(6)]
    running = [asyncio.create_task(send(cluster, request)) for request in asks]

    async def all_run() -> bool:
        return await running_on(cluster, Kind.DECODE, 0) + await running_on(cluster, Kind.DECODE, 1) == len(asks)

    await cluster.until(all_run)
    victim = 0 if await running_on(cluster, Kind.DECODE, 0) else 1
    cluster.kill(Kind.DECODE, victim)
    for request, task in zip(asks, running, strict=True):
        check(await task, alone.answer(request))


async def test_scores_of_a_prompt_do_not_come_out_of_a_cache(cluster: House, alone: Alone) -> None:
    ids = prompt(150, 99)
    plain = ask("warm", ids, seed=1, max_tokens=9)
    plain.sampling.ClearField("prompt_logprobs")
    for _ in range(2):
        warm = await send(cluster, plain)
        plain.request_id = "warmer"
    assert warm.usage.cached_tokens >= 128
    scored = ask("scored", ids, seed=1, max_tokens=9)
    answer = await send(cluster, scored)
    check(answer, alone.answer(scored))
    assert answer.usage.cached_tokens == 0


async def test_gathered_tokens_are_neither_lost_nor_reordered(cluster: House, alone: Alone) -> None:
    request = ask("gathered", prompt(30, 7), seed=5, max_tokens=50, stream_interval=8)
    answer, sizes = Answer(CLOCK), []
    async for response in cluster.client.generate(request, timeout_s=60.0):
        answer.take(response)
        sizes += [delta.num_tokens for delta in response.deltas]
    check(answer, alone.answer(request))
    assert sizes[0] == 1
    assert all(size >= 8 for size in sizes[1:-1])
    assert sum(sizes) == 50


async def resumed(
    cluster: House, name: str, *seen: int, tenant: str = ""
) -> AsyncIterator[generation_pb2.GenerateResponse]:
    channel = grpc_connect(Surface.CLIENT)(cluster.client.address)
    try:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        request = generation_pb2.ResumeRequest(request_id=name, from_index=seen, tenant=tenant)
        async with stream(stub.Resume, request, peer="router", timeout_s=60.0) as responses:
            async for response in responses:
                yield response.response
    finally:
        await channel.close(grace=None)


@pytest.mark.parametrize("count", [1, 25])
async def test_a_client_whose_channel_closed_gets_the_rest_once(cluster: House, alone: Alone, count: int) -> None:
    request = ask(f"resumed-{count}", prompt(90, 11), seed=3, max_tokens=120)
    request.resumable = True
    answer = Answer(CLOCK)
    channel = grpc_connect(Surface.CLIENT)(cluster.client.address)
    calls = generation_pb2_grpc.GenerationServiceStub(channel).Generate(request, timeout=60.0)
    async for response in calls:
        answer.take(response)
        if answer.choices and len(answer.choices[0].tokens) >= count:
            break
    await channel.close(grace=None)
    seen = len(answer.choices[0].tokens)
    with pytest.raises(NotFound) as foreign:
        _ = [response async for response in resumed(cluster, request.request_id, seen, tenant="somebody-else")]
    assert foreign.value.reason is Reason.REQUEST_NOT_FOUND
    async for response in resumed(cluster, request.request_id, seen):
        answer.take(response)
    check(answer, alone.answer(request))
    assert answer.usage.completion_tokens == 120

    async def has_expired() -> bool:
        try:
            _ = [response async for response in resumed(cluster, request.request_id, seen)]
        except NotFound as error:
            return error.reason is Reason.RESUME_EXPIRED
        await asyncio.sleep(3.5)  # each look opens the window anew
        return False

    await cluster.until(has_expired)
