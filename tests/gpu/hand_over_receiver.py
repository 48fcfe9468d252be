"""The decode side of tests.gpu.hand_over, a process of its own: accepts, verifies on the device, lands, says so."""

import asyncio
import os
import socket
import sys
from contextlib import nullcontext
from typing import Any

import torch

from common.kv.digest import DigestKey
from common.kv.seal import Seal
from common.transfer.berth import find_berth
from common.transfer.channel import Berth
from common.transfer.same_host.device import DeviceReceivingEnd, Retained
from common.transfer.same_host.line import Line
from common.transfer.same_host.receiving import ReceivingEnd
from common.transfer.same_host.ring import adopt_ring
from common.transfer.same_host.slots import create_slots
from kernels.dispatch import interpreted
from tests.gpu.two_ends import PAIR, WAIT_S, End, Shape, Words, places


class Receiver:
    """Answers one sender until it is gone."""

    def __init__(self, shape: Shape, device: torch.device, words: Words) -> None:
        self._shape = shape
        self._end = End(shape, device)
        self._words = words
        self._places = places(shape, seed=2)
        self._key = DigestKey(bytes(range(32)))

    async def run(self, ring: int, line: socket.socket, grip: int) -> None:
        shape, end = self._shape, self._end
        slots = create_slots(end.runtime, num_slots=shape.num_slots, slot_bytes=shape.slot_bytes)
        self._words.say({"handle": slots.memory().ipc_handle.hex()})
        mapped = adopt_ring(ring, PAIR, num_slots=shape.num_slots, slot_bytes=shape.slot_bytes)
        channel = DeviceReceivingEnd(ReceivingEnd(mapped, Line(line, PAIR)), slots, grip, Retained())
        async with asyncio.TaskGroup() as group:
            while (word := await self._words.hear()) is not None:
                if "compare" in word:
                    self._words.say({"equal": self._is_equal()})
                    continue
                berth = await find_berth(channel, end.dock.incoming, end.dock, timeout_s=WAIT_S)
                self._words.say({"accepted": word["frame"]})
                group.create_task(self._receive(word, berth))
        await channel.close()

    async def _receive(self, word: dict[str, Any], berth: Berth) -> None:
        end, size = self._end, self._shape.layout.page_bytes
        first, num_bytes = word["first"], word["num"] * size
        await berth.receive(word["frame"], num_bytes, timeout_s=WAIT_S)
        data, own = berth.view[:num_bytes], self._places[first : first + word["num"]]
        seal = Seal(key=self._key, first_index=first, digests=bytes.fromhex(word["digests"]))
        if word["verifies_landing"]:
            is_whole = await end.dock.offload.run(lambda: end.storage.scatter_sealed(own, data, seal))
        elif is_whole := seal.fits(await end.digester.digest(data, size, self._key, first_index=first)):
            await end.dock.offload.run(lambda: end.storage.scatter(own, data))
        berth.release()
        self._words.say({"landed": first, "is_whole": is_whole})

    def _is_equal(self) -> bool:
        """Are all pages here what the sender has? What is compared is then wiped, so that nothing is found twice."""
        self._end.storage.streams.begin_step()
        pages_PB, contents_NB = self._end.pages_PB, self._end.fill()
        own_N = torch.tensor(self._places, device=pages_PB.device)
        is_equal = all(torch.equal(pages_PB[page], contents_NB[place]) for place, page in enumerate(own_N.tolist()))
        pages_PB.zero_()
        self._end.storage.streams.settle(self._end.storage.streams.end_step())
        return is_equal


def main() -> None:
    is_small, ring, line, words, grip = (int(word) for word in sys.argv[1:6])
    device = torch.device("cpu") if is_small else torch.device("cuda", 0)
    torch.set_num_threads(1)

    async def serve() -> None:
        os.set_blocking(line, False)
        receiver = Receiver(Shape.of(is_small=bool(is_small)), device, await Words.over(socket.socket(fileno=words)))
        await receiver.run(ring, socket.socket(fileno=line), grip)

    with interpreted() if is_small else nullcontext():
        asyncio.run(serve())


if __name__ == "__main__":
    main()
