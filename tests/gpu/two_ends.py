"""What both processes of tests.gpu.hand_over have: pages and staging on the GPU, one end of a ring, and words.

The words stand for the calls of KvService, which a bare checkout cannot make: a line of JSON each way per run of pages.
"""

import asyncio
import json
import socket
from dataclasses import dataclass
from typing import Any

import torch

from common.core.ids import Epoch, PageId, WorkerId, WorkerRef
from common.engine.device import pinned_memory
from common.kv.layout import PageLayout
from common.kv.staging import StagingPool, host_memory
from common.kv.torch_device import TorchPageDevice
from common.kv.torch_storage import TorchStorage
from common.transfer.digester import Digester
from common.transfer.dock import Dock
from common.transfer.messages import Pair
from common.transfer.offload import ThreadOffload
from common.transfer.same_host.cudart import CudaRuntime, DeviceRuntime
from tests.gpu.host_runtime import HostRuntime

EIGHT_B = PageLayout(num_layers=32, num_kv_heads=8, head_dim=128, page_size=16, dtype="bfloat16")
TINY = PageLayout(num_layers=2, num_kv_heads=2, head_dim=8, page_size=4, dtype="bfloat16")
TOKENS = 32_768
MIB = 1 << 20
WAIT_S = 20.0
SEED = 7
PAIR = Pair(
    sender=WorkerRef(worker=WorkerId("p"), epoch=Epoch(1), address="p:1"),
    receiver=WorkerRef(worker=WorkerId("d"), epoch=Epoch(2), address="d:1"),
    nonce=1,
    channel="cuda_ipc",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How much is handed over, and through what."""

    layout: PageLayout
    num_pages: int
    slot_bytes: int
    num_slots: int = 4

    @classmethod
    def of(cls, *, is_small: bool) -> "Shape":
        if is_small:
            return cls(layout=TINY, num_pages=7, slot_bytes=3 * TINY.page_bytes)
        return cls(layout=EIGHT_B, num_pages=EIGHT_B.pages_for(TOKENS), slot_bytes=256 * MIB)


class End:
    """One worker's part of a hand-over."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        layout = shape.layout
        self.storage = TorchStorage(layout, shape.num_pages + 1, device)
        page_device = TorchPageDevice(device, self.storage.streams, self.storage.keys)
        size, make = shape.slot_bytes, page_device.make_buffer
        self.dock = Dock(
            device=page_device,
            incoming=StagingPool(1, size, make_buffer=make),
            leaving=StagingPool(shape.num_slots, size, make_buffer=make),
            make_host_buffer=pinned_memory if device.type == "cuda" else host_memory,
            offload=ThreadOffload(2),
        )
        self.digester = Digester(ThreadOffload(), self.dock)
        self.runtime: DeviceRuntime = CudaRuntime(device.index or 0) if device.type == "cuda" else HostRuntime()

    @property
    def pages_PB(self) -> torch.Tensor:
        kv = self.storage.kv_PL2HSD
        return kv.view(len(kv), -1).view(torch.uint8)

    def fill(self) -> torch.Tensor:
        """contents_NB that both processes can make by themselves."""
        pages_PB = self.pages_PB
        generator = torch.Generator(pages_PB.device).manual_seed(SEED)
        shape = (len(pages_PB) - 1, pages_PB.shape[1])
        return torch.randint(0, 256, shape, dtype=torch.uint8, device=pages_PB.device, generator=generator)


def places(shape: Shape, seed: int) -> list[PageId]:
    """Where an end keeps its pages: in no order, one page left out."""
    order = torch.randperm(shape.num_pages + 1, generator=torch.Generator().manual_seed(seed)).tolist()
    return [PageId(page) for page in order[: shape.num_pages]]


class Words:
    """Lines of JSON over a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, connection: socket.socket) -> "Words":
        return cls(*await asyncio.open_connection(sock=connection, limit=64 * MIB))

    def say(self, word: dict[str, Any]) -> None:
        self._writer.write(json.dumps(word).encode() + b"\n")

    async def hear(self) -> dict[str, Any] | None:
        """The next; None when the other end is gone."""
        line = await self._reader.readline()  # bounded: the other process has a deadline
        return json.loads(line) if line else None

    def close(self) -> None:
        self._writer.close()
