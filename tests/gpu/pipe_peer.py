"""The receiver as the sender of tests.gpu.hand_over speaks to it: lines over a socket in the place of gRPC."""

import asyncio

from common.transfer.messages import Offer, PageRun
from tests.gpu.two_ends import WAIT_S, Words


class PipePeer:
    """The one call of a Peer that a link makes for a run, and the one at its end."""

    def __init__(self, words: Words) -> None:
        self.verifies_landing = True
        """How the other end verifies what is offered from now on: as it lands, or before."""
        self._words = words
        self._accepted: dict[int, asyncio.Future[None]] = {}
        self._landed: dict[int, asyncio.Future[bool]] = {}
        self._equal: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._hearing = asyncio.get_running_loop().create_task(self._hear())

    async def offer(self, offer: Offer, *, timeout_s: float) -> None:
        loop, run = asyncio.get_running_loop(), offer.run
        accepted = self._accepted[offer.frame] = loop.create_future()
        self._landed[run.first_page] = loop.create_future()
        word = {"frame": offer.frame, "first": run.first_page, "num": run.num_pages, "digests": offer.digests.hex()}
        self._words.say({**word, "verifies_landing": self.verifies_landing})
        async with asyncio.timeout(timeout_s):
            await accepted

    async def leave(self, *_: object, **__: object) -> None:
        return

    async def wait_landed(self, run: PageRun) -> bool:
        """Whether it was whole."""
        return await self._landed[run.first_page]

    async def compare(self) -> bool:
        """Does the other end have what this one has?"""
        self._equal = asyncio.get_running_loop().create_future()
        self._words.say({"compare": True})
        async with asyncio.timeout(WAIT_S):
            return await self._equal

    async def _hear(self) -> None:
        while (word := await self._words.hear()) is not None:
            if "equal" in word:
                self._equal.set_result(word["equal"])
            elif "accepted" in word:
                self._accepted.pop(word["accepted"]).set_result(None)
            else:
                self._landed[word["landed"]].set_result(word["is_whole"])
