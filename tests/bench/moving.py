"""Measure what a hand-over's bytes cost: `python -m tests.bench.moving`. Bound: passes over memory; a copy makes two.

64 MiB of pages from one pool to another over a ring of shared memory, in one process and on one thread, both ways in
turn. `apart` is gather, digest, copy into the slot, digest, scatter: 8 passes. `sealed` is what workers do where a slot
is free: a gather with digests into the slot and a scatter with verification out of it, 4 passes. Prints a JSON line per
page size: ms of processor time, best and median of ROUNDS after one that does not count, and a copy of as many bytes.
Not part of the test suite: with more busy processes than cores it measures them.
"""

import json
import os
import random
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from common.core.ids import Epoch, PageId, WorkerId, WorkerRef
from common.kv.digest import DigestKey, digest_pages
from common.kv.layout import PageLayout
from common.kv.seal import Seal
from common.kv.torch_storage import TorchStorage
from common.transfer.messages import Pair
from common.transfer.same_host.ring import create_ring
from kernels.cpu.library import load

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
TOTAL_BYTES = 64 * MIB
FRAME_BYTES = 8 * MIB
ROUNDS = 15
KEY = DigestKey(bytes(range(32)))
LAYOUTS = {
    "model S": PageLayout(num_layers=12, num_kv_heads=4, head_dim=64, page_size=16, dtype="bfloat16"),
    "8B": PageLayout(num_layers=32, num_kv_heads=8, head_dim=128, page_size=16, dtype="bfloat16"),
}
PAIR = Pair(
    sender=WorkerRef(WorkerId("p"), Epoch(1), "p:1"),
    receiver=WorkerRef(WorkerId("d"), Epoch(2), "d:1"),
    nonce=1,
    channel="same_host",
)


class Bench:
    """Two pools, a slot of a ring, and a staging buffer between the first and the slot."""

    def __init__(self, layout: PageLayout) -> None:
        self.size = layout.page_bytes
        self.frame_pages = FRAME_BYTES // self.size
        num_frames = TOTAL_BYTES // (self.frame_pages * self.size)
        self.num_pages = num_frames * self.frame_pages
        self.here, self.there = (TorchStorage(layout, self.num_pages) for _ in range(2))
        order = random.Random(1).sample(range(self.num_pages), self.num_pages)
        own = [PageId(page) for page in order]
        self.frames = [own[at : at + self.frame_pages] for at in range(0, self.num_pages, self.frame_pages)]
        num_bytes = self.frame_pages * self.size
        ring, descriptor = create_ring(PAIR, num_slots=1, slot_bytes=num_bytes)
        os.close(descriptor)
        self.slot, self.staging = ring.slot(0), memoryview(bytearray(num_bytes))
        for frame in self.frames:
            self.here.scatter(frame, memoryview(bytearray(random.Random(frame[0]).randbytes(num_bytes))))

    def apart(self) -> None:
        for frame in self.frames:
            self.here.gather(frame, self.staging)
            sent = digest_pages(self.staging, self.size, KEY)
            self.slot[:] = self.staging
            assert digest_pages(self.slot, self.size, KEY) == sent
            self.there.scatter(frame, self.slot)

    def sealed(self) -> None:
        for frame in self.frames:
            digests = self.here.gather_sealed(frame, self.slot, KEY, first_index=0).finish()
            assert self.there.scatter_sealed(frame, self.slot, Seal(key=KEY, first_index=0, digests=digests))

    def gather(self) -> None:
        """The step loop's part, as it was."""
        for frame in self.frames:
            self.here.gather(frame, self.staging)

    def gather_sealed(self) -> None:
        """The step loop's part now."""
        for frame in self.frames:
            self.here.gather_sealed(frame, self.slot, KEY, first_index=0)


def measure(layout: PageLayout) -> dict[str, float]:
    bench = Bench(layout)
    source, target = (np.ones(bench.num_pages * bench.size, dtype=np.uint8) for _ in range(2))
    ways: dict[str, Callable[[], object]] = {
        "copy": lambda: np.copyto(target, source),
        "apart": bench.apart,
        "sealed": bench.sealed,
        "gather": bench.gather,
        "gather_sealed": bench.gather_sealed,
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            began = time.process_time()
            way()
            if turn:
                taken[name].append(time.process_time() - began)
    found: dict[str, float] = {"page_bytes": bench.size, "mib": bench.num_pages * bench.size / MIB}
    for name, seconds in taken.items():
        found[f"{name}_best_ms"] = round(min(seconds) * 1e3, 2)
        found[f"{name}_median_ms"] = round(statistics.median(seconds) * 1e3, 2)
    for above, below in (("apart", "sealed"), ("gather_sealed", "gather"), ("sealed", "copy")):
        ratios = (a / b for a, b in zip(taken[above], taken[below], strict=True))
        found[f"{above}_to_{below}"] = round(statistics.median(ratios), 2)
    return found


def main() -> None:
    torch.set_num_threads(1)
    print(load().reason)
    for name, layout in LAYOUTS.items():
        print(json.dumps({"pages": name, **measure(layout), "load_average": round(os.getloadavg()[0], 2)}))


if __name__ == "__main__":
    main()
