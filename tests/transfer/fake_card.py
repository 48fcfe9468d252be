"""A GPU's memory without a GPU: what processes allocate, share and map of it, with CUDA's rules asserted."""

import asyncio
import time
from dataclasses import dataclass, field

from common.core.entropy import SystemEntropy
from common.core.errors import Reason, TransferFailed
from common.transfer.host import read_host
from common.transfer.messages import GpuFacts
from common.transfer.same_host.cuda_ipc import CudaIpcFactory
from common.transfer.same_host.cudart import IPC_HANDLE_BYTES

GPU = GpuFacts(uuid="GPU-1", nccl_version="2.27.5")
IN_TIME_S = 5.0


@dataclass
class Card:
    """One device's memory, as all processes see it, and who maps what. `breaks`: calls that fail from now on."""

    memory: dict[int, bytearray] = field(default_factory=dict)
    mapped: dict[int, int] = field(default_factory=dict)
    breaks: set[str] = field(default_factory=set)
    slow_s: float = 0.0
    num_allocated: int = 0

    def find(self, address: int) -> tuple[bytearray, int]:
        for start, memory in self.memory.items():
            if start <= address < start + len(memory):
                return memory, address - start
        raise TransferFailed(message=f"no memory at {address}", reason=Reason.CHANNEL_BROKEN)

    async def wait_free(self, num_left: int = 0) -> None:
        """Until all but so many allocations are gone."""
        async with asyncio.timeout(IN_TIME_S):
            while len(self.memory) > num_left:  # a driver tells nobody
                await asyncio.sleep(0.01)


class FakeRuntime:
    """One process's view. Its rule is CUDA's: what is mapped elsewhere must not be freed."""

    bus_id = b"0000:01:00.0"
    device = 1

    def __init__(self, card: Card) -> None:
        self._card = card

    def allocate(self, num_bytes: int) -> int:
        self._enter("allocate")
        self._card.num_allocated += 1
        address = self._card.num_allocated << 32
        self._card.memory[address] = bytearray(num_bytes)
        return address

    def free(self, address: int) -> None:
        assert not self._card.mapped.get(address), "freed while it is mapped"
        del self._card.memory[address]

    def export(self, address: int) -> bytes:
        self._enter("export")
        return address.to_bytes(IPC_HANDLE_BYTES, "little")

    def open(self, handle: bytes) -> int:
        self._enter("open")
        address = int.from_bytes(handle, "little")
        assert address in self._card.memory, "mapped after it was freed"
        self._card.mapped[address] = self._card.mapped.get(address, 0) + 1
        return address

    def close(self, address: int) -> None:
        self._card.mapped[address] -= 1

    def copy(self, into: int, source: int, num_bytes: int) -> None:
        data, begin = self._card.find(source)
        self.write(into, memoryview(data)[begin : begin + num_bytes])

    def write(self, into: int, data: memoryview) -> None:
        self._enter("copy")
        target, start = self._card.find(into)
        target[start : start + len(data)] = data

    def read(self, out: memoryview, source: int) -> None:
        self._enter("copy")
        data, begin = self._card.find(source)
        out[:] = data[begin : begin + len(out)]

    def _enter(self, call: str) -> None:
        if call in self._card.breaks:
            raise TransferFailed(message=f"cuda {call}: invalid device context", reason=Reason.CHANNEL_BROKEN)
        time.sleep(self._card.slow_s)


def card_factory(card: Card, *, num_slots: int = 3, slot_bytes: int = 9 << 20, max_pairs: int = 64) -> CudaIpcFactory:
    host = read_host(GPU)
    assert host is not None
    return CudaIpcFactory(
        host,
        FakeRuntime(card),
        num_slots=num_slots,
        slot_bytes=slot_bytes,
        max_pairs=max_pairs,
        entropy=SystemEntropy(),
    )
