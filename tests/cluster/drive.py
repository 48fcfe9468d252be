"""What the fault tests share: prompts, the comparison with the undisturbed run, moments at which something is hit."""

import random

from services.local.topology import Kind
from tests.cluster.house import Ask, House, Told
from tests.cluster.reference import sim_reference

PAGE_SIZE = 16
PAGE_BYTES = 256
"""Of the simulated layout."""

SLOW_SIM = (
    "engine.executor=sim",
    "engine.num_pages=4096",
    "engine.sim_step_ms=20",
    "engine.chunk_tokens=16",
    "engine.max_batch_tokens=64",
    "router.local_prompt_tokens=16",
    "transfer.staging_bytes=4096",
    "transfer.land_bytes=4096",
)
"""No weights, and a pace: a prompt takes 20 ms per page to read, and every chunk travels in a frame of its own."""


def prompts(count: int, *, length: int, max_tokens: int, seed: int) -> list[Ask]:
    """Random prompts: no two share a page."""
    chance = random.Random(seed)
    return [
        Ask(tokens=tuple(chance.randrange(512) for _ in range(length)), max_tokens=max_tokens) for _ in range(count)
    ]


def check_all(asks: list[Ask], told: list[Told]) -> None:
    """Every stream is whole, and its tokens are those of the undisturbed run."""
    reference = sim_reference()
    for ask, each in zip(asks, told, strict=True):
        each.check_whole(ask.max_tokens)
        assert [each.tokens(choice) for choice in range(ask.n)] == reference.answer(ask), ask.tokens[:4]


async def running_on(cluster: House, kind: Kind, number: int = 0) -> int:
    """Sequences that one worker steps now."""
    return (await cluster.status(cluster.worker(kind, number))).load.running_sequences


async def wait_tokens(cluster: House, told: Told, count: int) -> None:
    """Until the client of a running request has so many tokens."""

    async def has_them() -> bool:
        return sum(len(choice.tokens) for choice in told.answer.choices.values()) >= count

    await cluster.until(has_them)


async def counter(cluster: House, kind: Kind, name: str) -> float:
    """Summed over the workers of a kind."""
    return sum(each.get(name, 0.0) for each in await cluster.counters(kind))


def first_token_s(told: Told) -> float:
    """From the request to its first token, as the client saw it."""
    return told.times[0] - told.sent_at
