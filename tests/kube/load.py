"""Requests of one client, at once or at a steady pace; what they are told is kept."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from services.local.client import RouterClient
from tests.cluster.house import Ask, Told
from tests.kube.release import MAX_TRIES, ask

SEED = 5
PROMPT_TOKENS, ANSWER_TOKENS = 200, 8
ANSWER_S = 150.0
"""For who is held until a fleet at none has started, on a machine that does other things as well."""


class Load:
    """An async context manager: who is not answered at its end is left. Prompts are unlike each other, so no cache has
    them. `tries`: how often a request is sent that no router has begun."""

    def __init__(self, client: RouterClient, *, tries: int = MAX_TRIES) -> None:
        self._client = client
        self._tries = tries
        self._chance = random.Random(SEED)
        self._tasks: list[asyncio.Task[Told]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def send(self, count: int = 1, *, max_tokens: int = ANSWER_TOKENS) -> None:
        for _ in range(count):
            tokens = tuple(self._chance.randrange(1, 500) for _ in range(PROMPT_TOKENS))
            asked = ask(self._client, Ask(tokens=tokens, max_tokens=max_tokens), timeout_s=ANSWER_S, tries=self._tries)
            self._tasks.append(asyncio.create_task(asked))

    @asynccontextmanager
    async def steadily(self, per_s: float) -> AsyncIterator[None]:
        """Inside the block."""

        async def send() -> None:
            while True:
                self.send()
                await asyncio.sleep(1 / per_s)

        sender = asyncio.create_task(send())
        try:
            yield
        finally:
            sender.cancel()

    async def told(self) -> list[Told]:
        """Of all that was sent, in that order."""
        return await asyncio.gather(*self._tasks)
