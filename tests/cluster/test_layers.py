"""Hand-overs layer by layer between real processes: the same tokens, and frames that began amid their steps."""

import random
from pathlib import Path

import pytest

from services.local.topology import Kind
from tests.cluster.house import Ask, house
from tests.cluster.reference import torch_reference

MODEL = Path("models/demo")
SEED = 20261122
NUM_REQUESTS = 24
SETTINGS = (
    "transfer.layer_groups=3",  # of eight layers: two groups, for three would not be equal
    "engine.num_pages=1024",
    "engine.chunk_tokens=128",
    "engine.max_batch_tokens=256",
    "router.local_prompt_tokens=1",
)

pytestmark = [pytest.mark.cluster, pytest.mark.calm]


def prompts_of_several_chunks(seed: int) -> list[Ask]:
    chance = random.Random(seed)
    asks = []
    for number in range(NUM_REQUESTS):
        length = chance.choice([1, 17, 128, 256, 300, chance.randrange(130, 900)])
        asks.append(
            Ask(
                tokens=tuple(chance.randrange(10, 4000) for _ in range(length)),
                max_tokens=chance.randrange(2, 12),
                n=chance.choice([1, 1, 2]),
                temperature=chance.choice([0.0, 1.0]),
                seed=chance.randrange(1, 2**31),
                request_id=f"layers-{number}",
            )
        )
    return asks


@pytest.mark.timeout(200)
async def test_layers_that_arrive_one_group_after_the_other_change_no_token() -> None:
    print(f"seed {SEED}")
    asks = prompts_of_several_chunks(SEED)
    async with house(prefill=1, decode=2, settings=SETTINGS) as cluster:
        told = [*await cluster.ask_all(asks[:4], at_once=1), *await cluster.ask_all(asks[4:], at_once=6)]
        (prefill,) = await cluster.counters(Kind.PREFILL)
        decode = await cluster.counters(Kind.DECODE)
    reference = torch_reference(MODEL)
    for ask, answer in zip(asks, told, strict=True):
        answer.check_whole(ask.max_tokens)
        tokens = [answer.tokens(index) for index in range(ask.n)]
        assert tokens == reference.answer(ask), f"{ask.request_id}: {len(ask.tokens)} tokens, n {ask.n}"
    assert sum(each["landed_bytes"] for each in decode) == prefill["gathered_bytes"]
    chunks = sum(-(-len(ask.tokens) // 128) for ask in asks)
    print(f"{prefill['early_runs']:.0f} early runs of {chunks} chunks, {prefill['gathered_bytes']:.0f} bytes")
    assert prefill["early_runs"] > chunks / 2, "of each chunk to a worker that was asked there are two"
