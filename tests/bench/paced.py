"""A target of known speed in virtual time: one reader of prompts, and streams that a prompt stalls or does not."""

import asyncio
from collections.abc import AsyncIterator

from common.core.clock import Clock
from services.local.bench.target import Piece


class PacedTarget:
    """Reads `prompt_token_s` per token, one prompt at a time; writes a token every `step_s`."""

    name = "paced"
    vocab_size = 32_000
    max_context = 8_192

    def __init__(self, clock: Clock, *, step_s: float = 0.02, prompt_token_s: float = 0.0, stalls: bool = False):
        self._clock = clock
        self._step_s = step_s
        self._prompt_token_s = prompt_token_s
        self._stalls = stalls
        self._reading_until = 0.0
        self.prompts: list[tuple[int, ...]] = []

    async def stream(self, prompt: tuple[int, ...], max_tokens: int) -> AsyncIterator[Piece]:
        self.prompts.append(prompt)
        self._reading_until = max(self._reading_until, self._clock.monotonic()) + len(prompt) * self._prompt_token_s
        await asyncio.sleep(self._reading_until - self._clock.monotonic())
        for index in range(max_tokens):
            if index:
                await asyncio.sleep(self._step_s)
                if self._stalls:
                    await asyncio.sleep(max(0.0, self._reading_until - self._clock.monotonic()))
            yield Piece(at=self._clock.monotonic(), num_tokens=1)
