"""Mixed load on a live cluster: prompts of all lengths, answers side by side, and what each request's stages took."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from common.core.clock import Clock
from common.core.entropy import Entropy
from common.core.errors import Refused
from protos.baton.v1 import generation_pb2, types_pb2
from services.local.client import RouterClient

ANSWER_S = 300.0
FIRST_TOKEN = 300
"""Chosen: above bytes and special tokens of the usual vocabularies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request of the exercise. `at_s` from its beginning."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


@dataclass(slots=True, kw_only=True)
class Heard:
    """What became of it. Seconds from the beginning of the exercise; `stations` in order, from its own sending.
    `refused`: there was no room for it, and it was not asked again."""

    ask: Ask
    sent_s: float = 0.0
    token_s: list[float] = field(default_factory=list)
    stations: tuple[types_pb2.Station, ...] = ()
    refused: Refused | None = None

    def at(self, name: str) -> float | None:
        """When a station was first reached, from the router's receipt; None: it was not."""
        return next((station.at_s for station in self.stations if station.name == name), None)


def mixture(entropy: Entropy, *, seconds: float, per_s: float, max_context: int) -> list[Ask]:
    """Requests that arrive by chance: three in ten with long prompts, answers of a line to a paragraph."""
    asks: list[Ask] = []
    at_s = 0.0
    longest = max(64, min(1500, max_context - 128))
    while True:
        at_s += _exponential(entropy) / per_s
        if at_s >= seconds:
            return asks
        is_long = entropy.bits(20) % 10 < 3
        low, high = (min(400, longest // 2), longest) if is_long else (16, min(200, longest))
        asks.append(
            Ask(
                at_s=at_s,
                prompt_tokens=low + entropy.bits(32) % (high - low + 1),
                output_tokens=16 + entropy.bits(32) % 49,
            )
        )


def one_by_one(count: int, *, max_context: int) -> list[Ask]:
    """Requests to send each after the end of the one before: short prompts and longer ones in turn."""
    long = max(48, min(400, max_context - 128))
    return [Ask(at_s=0.0, prompt_tokens=long if index % 2 else 32, output_tokens=8) for index in range(count)]


async def exercise(
    client: RouterClient, asks: Sequence[Ask], *, vocab_size: int, clock: Clock, entropy: Entropy
) -> list[Heard]:
    """Sends every request at its time, whatever became of those before. Refusals are heard; raises what
    else a request ends with, in a group."""
    began = clock.monotonic()
    heard = [Heard(ask=ask) for ask in asks]

    async def send(one: Heard) -> None:
        await asyncio.sleep(max(0.0, began + one.ask.at_s - clock.monotonic()))
        sampling = types_pb2.SamplingParams(max_tokens=one.ask.output_tokens, temperature=0.0, ignore_eos=True)
        request = generation_pb2.GenerateRequest(sampling=sampling, return_token_ids=True)
        spread = vocab_size - FIRST_TOKEN - 4
        request.token_ids.ids.extend(FIRST_TOKEN + entropy.bits(32) % spread for _ in range(one.ask.prompt_tokens))
        one.sent_s = clock.monotonic() - began
        try:
            async for response in client.generate(request, timeout_s=ANSWER_S):
                num_tokens = sum(len(delta.token_ids) for delta in response.deltas)
                one.token_s.extend([clock.monotonic() - began] * num_tokens)
                if response.stations:
                    one.stations = tuple(response.stations)
        except Refused as refused:
            one.refused = refused

    async with asyncio.TaskGroup() as group:
        for one in heard:
            group.create_task(send(one))
    return heard


def served(heard: Sequence[Heard]) -> list[Heard]:
    """Who was not refused. Raises Refused where everybody was."""
    refused = [one.refused for one in heard if one.refused is not None]
    if refused and len(refused) == len(heard):
        raise Refused(message=f"nothing was served: {refused[0].message}; press less (--rate)")
    return [one for one in heard if one.refused is None]


def _exponential(entropy: Entropy) -> float:
    """A gap between arrivals that know nothing of each other, with mean 1."""
    return -math.log1p(-entropy.bits(53) / 2.0**53)
