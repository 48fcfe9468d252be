"""The answers of one exchange: one request to a router per prompt, all their choices numbered through."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from protos.baton.v1 import generation_pb2, types_pb2
from services.gateway.places import Places
from services.gateway.routers import Routers

QUEUED = 64
"""Chosen: messages of several prompts that wait for their one writer; a full queue holds up the routers' streams."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was used so far. Writer: the answer's iteration."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def usage(self) -> dict[str, object]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


@dataclass(frozen=True, slots=True)
class Piece:
    """One message of a router. Its choices are numbered over all prompts, prompt by prompt."""

    prompt: int
    response: generation_pb2.GenerateResponse


class Answer:
    """Iterate `pieces` once; `tally` is complete afterwards."""

    def __init__(
        self,
        routers: Routers,
        requests: Sequence[generation_pb2.GenerateRequest],
        *,
        places: Places,
        timeout_s: float | None,
        is_silent: bool = False,
    ) -> None:
        """`is_silent`: a router writes one token at least; nobody gets to see it."""
        self.tally = Tally()
        self.waterfall: list[dict[str, object]] = []
        """The stations of every prompt's request, once it has ended."""
        self.choices_per_prompt = max(1, requests[0].sampling.n)
        self.num_choices = len(requests) * self.choices_per_prompt
        self._routers = routers
        self._requests = requests
        self._places = places
        self._timeout_s = timeout_s
        self._is_silent = is_silent

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """In the order of arrival. Raises the first error of any prompt; the other prompts are cancelled then."""
        source = self._one(0) if len(self._requests) == 1 else self._together()
        async with aclosing(source) as pieces:
            async for piece in pieces:
                if self._is_silent:
                    _silence(piece.response)
                self._count(piece.response)
                yield piece

    async def _one(self, prompt: int) -> AsyncGenerator[Piece, None]:
        shift = prompt * self.choices_per_prompt
        responses = self._routers.generate(self._requests[prompt], timeout_s=self._timeout_s)
        async with self._places.one(), aclosing(responses):
            async for response in responses:
                if shift:
                    for delta in response.deltas:
                        delta.choice += shift
                yield Piece(prompt, response)

    async def _together(self) -> AsyncGenerator[Piece, None]:
        queue: asyncio.Queue[Piece | Exception | None] = asyncio.Queue(QUEUED)
        waiting = iter(range(len(self._requests)))

        async def pump() -> None:
            try:
                for prompt in waiting:  # shared: each takes the next
                    async with aclosing(self._one(prompt)) as pieces:
                        async for piece in pieces:
                            await queue.put(piece)
                await queue.put(None)
            except Exception as error:  # noqa: BLE001  # a bug too: whoever reads would wait for it for ever
                await queue.put(error)

        num_pumps = min(len(self._requests), self._places.per_exchange)
        pumps = [asyncio.create_task(pump(), name=f"prompts {number}") for number in range(num_pumps)]
        try:
            num_open = len(pumps)
            while num_open:
                match await queue.get():  # bounded: each pump's calls end with their deadlines
                    case None:
                        num_open -= 1
                    case Exception() as error:
                        raise error
                    case piece:
                        yield piece
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)  # bounded: cancelled above

    def _count(self, response: generation_pb2.GenerateResponse) -> None:
        tally = self.tally
        tally.prompt_tokens += response.prompt_tokens
        tally.completion_tokens += sum([delta.num_tokens for delta in response.deltas])
        if response.HasField("usage"):  # the last one
            tally.cached_tokens += response.usage.cached_tokens
            self.waterfall += [_shown(station) for station in response.stations]


def _silence(response: generation_pb2.GenerateResponse) -> None:
    """As if every choice had ended before its first token."""
    for delta in response.deltas:
        is_stop = delta.finish_reason == types_pb2.FINISH_REASON_STOP
        reason = types_pb2.FINISH_REASON_LENGTH if is_stop else delta.finish_reason
        delta.CopyFrom(generation_pb2.ChoiceDelta(choice=delta.choice, finish_reason=reason))


def _shown(station: types_pb2.Station) -> dict[str, object]:
    return {"name": station.name, "at_s": round(station.at_s, 6), "where": station.where, "facts": dict(station.facts)}
