"""The claim that everything else rests on: through the cluster, every request gets the tokens it would get alone."""

import random
from pathlib import Path

import pytest

from services.local.topology import Kind
from tests.cluster.house import Ask, Told, house
from tests.cluster.reference import torch_reference

MODEL = Path("models/demo")
SEED = 20261121
NUM_REQUESTS = 200
PAGE_SIZE = 16

pytestmark = [pytest.mark.cluster, pytest.mark.calm]


def mixed_requests(seed: int = SEED, count: int = NUM_REQUESTS) -> list[Ask]:
    """Lengths 1 to 2,000 with page borders among them, shared prefixes, n up to 4, greedy and seeded."""
    chance = random.Random(seed)
    stems = [[chance.randrange(10, 4000) for _ in range(length)] for length in (64, 200, 500, 1500)]
    asks = []
    for number in range(count):
        length = chance.choice(
            [1, 15, 16, 17, 48, chance.randrange(2, 128), chance.randrange(2, 128), chance.randrange(128, 512)]
        )
        tokens = [chance.randrange(10, 4000) for _ in range(length)]
        if chance.random() < 0.4:
            stem = chance.choice(stems)
            tokens = stem[: chance.randrange(1, len(stem) + 1)] + tokens[: 2000 - len(stem)]
        is_greedy = chance.random() < 0.5
        asks.append(
            Ask(
                tokens=tuple(tokens),
                max_tokens=chance.randrange(1, 20),
                n=chance.choice([1, 1, 1, 2, 4]),
                temperature=0.0 if is_greedy else chance.choice([0.5, 1.0]),
                seed=chance.randrange(1, 2**31),
                request_id=f"same-{number}",
            )
        )
    return asks


@pytest.mark.timeout(400)
async def test_two_hundred_mixed_requests_get_the_tokens_of_a_single_process() -> None:
    """2 prefill + 2 decode against one executor: ids equal, bytes moved as the layout says, no stray prompt work."""
    print(f"seed {SEED}")
    asks = mixed_requests()
    async with house(
        prefill=2, decode=2, settings=("engine.num_pages=2048", "router.local_prompt_tokens=32")
    ) as cluster:
        told = await cluster.ask_all(asks, at_once=16)
        decode = await cluster.counters(Kind.DECODE)
        prefill = await cluster.counters(Kind.PREFILL)
        layout = (await cluster.status(cluster.worker(Kind.DECODE))).layout
    reference = torch_reference(MODEL)
    for ask, answer in zip(asks, told, strict=True):
        answer.check_whole(ask.max_tokens)
        tokens = [answer.tokens(index) for index in range(ask.n)]
        assert tokens == reference.answer(ask), f"{ask.request_id}: {len(ask.tokens)} tokens, n {ask.n}"
    gathered, landed = (
        sum(each[name] for each in group) for group, name in ((prefill, "gathered_bytes"), (decode, "landed_bytes"))
    )
    local = [(ask, answer) for ask, answer in zip(asks, told, strict=True) if _is_local(answer)]
    ended = [
        ask for ask, answer in zip(asks, told, strict=True) if ask.max_tokens == 1 and not _is_local(answer)
    ]  # on prefill, with their first token: of those, what is on its way need not land any more
    spare = sum(-(-len(ask.tokens) // layout.page_size) for ask in ended) * layout.page_bytes
    assert landed <= gathered <= landed + spare
    assert gathered % layout.page_bytes == landed % layout.page_bytes == 0
    assert sum(each["promises_filled"] for each in decode) + len(local) + len(ended) == len(asks)
    on_purpose = sum(len(ask.tokens) - answer.answer.usage.cached_tokens for ask, answer in local)
    assert sum(each["local_prompt_tokens"] for each in decode) == on_purpose
    print(f"{len(local)} local, {len(asks) - len(local)} relayed, {landed} bytes landed")


def _is_local(told: Told) -> bool:
    return not any(station.name == "reserved" for station in told.answer.stations)
