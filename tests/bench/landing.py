"""What landing takes from decode steps: `python -m tests.bench.landing MODEL_FOLDER [seconds]`.

One decode core in this process, on one thread: 8 answers run, prompts of 1,024 tokens arrive as frames, digests are
verified on a thread beside it as in a worker, and every second turn of the wheel is without arrivals. Prints one JSON
object: wall and CPU milliseconds of turns with a landing and of those without, and their ratios. No network: what
receiving takes from a step is not in it (`baton bench transfer` has that).
"""

import json
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path

import torch

from common.core.clock import SystemClock
from common.core.ids import ReservationId
from common.engine.batch import Batch
from common.engine.torch_executor import TorchExecutor
from common.kv.cache import PageCache
from common.kv.digest import DigestKey, digest_pages
from common.kv.pool import PagePool
from common.kv.prefix import PrefixIndex
from common.kv.torch_storage import TorchStorage
from common.model.load import load_model
from common.worker.engine import Engine
from kernels.dispatch import Kernels, choose
from services.decode.app import compose
from services.decode.budget import ExtendBudget
from services.decode.core import DecodeCore
from services.decode.desk import Frame
from services.decode.scheduler import DecodeLimits
from tests.engine.rig import work

PAGE_SIZE, NUM_PAGES = 16, 1600
STREAMS, PROMPT_TOKENS = 8, 1024
RUN_PAGES = 32
TURNS = 12
"""With arrivals, then as many without."""

KEY = DigestKey(bytes(range(32)))


def make_engine(folder: Path) -> Engine:
    choose(Kernels.AUTO)
    model = load_model(folder, dtype="bfloat16")
    layout = model.decoder.spec.page_layout(page_size=PAGE_SIZE, dtype="bfloat16", model_digest=b"")
    storage = TorchStorage(layout, NUM_PAGES)
    executor = TorchExecutor(model.decoder, storage, clock=SystemClock(), num_threads=1)
    cache = PageCache(PagePool(NUM_PAGES), PrefixIndex(), page_size=PAGE_SIZE)
    batch = Batch(cache=cache, executor=executor, layout=layout, eos_ids=())
    return Engine(layout=layout, storage=storage, executor=executor, cache=cache, batch=batch)


def make_core(engine: Engine) -> DecodeCore:
    names = count()
    return compose(
        engine,
        limits=DecodeLimits(
            page_size=PAGE_SIZE, max_sequences=64, extend_tokens=64, idle_extend_tokens=512, watermark_pages=8
        ),
        budget=ExtendBudget(itl_budget_s=0.05, ceiling=64, floor=8),
        slice_bytes=8 << 20,
        overcommit=4.0,
        lease_s=60.0,
        clock=SystemClock(),
        mint=lambda: ReservationId(f"res-{next(names)}"),
    )


class Arrivals:
    """Promises one prompt at a time, verifies its frames beside the core, and gives it up once it has landed."""

    def __init__(self, core: DecodeCore, page_bytes: int, offload: ThreadPoolExecutor) -> None:
        self._core = core
        self._page_bytes = page_bytes
        self._offload = offload
        self._numbers = count()
        self._verified: deque[tuple[Frame, Future[tuple[bytes, ...]]]] = deque()
        num_runs = PROMPT_TOKENS // PAGE_SIZE // RUN_PAGES
        self._buffers = [memoryview(bytearray(os.urandom(RUN_PAGES * page_bytes))) for _ in range(num_runs)]

    def begin(self) -> None:
        number = next(self._numbers)
        prompt = [(number * 7919 + place * 31) % 4001 for place in range(PROMPT_TOKENS)]
        self._given = work(f"arrival-{number}", prompt, max_tokens=8)
        promise = self._core.reserve(self._given)
        num_pages = PROMPT_TOKENS // PAGE_SIZE
        for first in range(0, num_pages, RUN_PAGES):
            data = self._buffers[first // RUN_PAGES]
            frame = Frame(reservation=promise.reservation, attempt=1, first_page=first, num_pages=RUN_PAGES, data=data)
            self._verified.append((frame, self._offload.submit(digest_pages, data, self._page_bytes, KEY)))

    def turn(self) -> None:
        while self._verified and self._verified[0][1].done():
            self._core.land(self._verified.popleft()[0])

    def end(self) -> None:
        self._core.cancel(self._given.request, 1)


def spread(values: Sequence[float]) -> dict[str, float]:
    ranked = sorted(values)
    return {
        "count": len(ranked),
        "p50_ms": round(statistics.median(ranked) * 1e3, 3),
        "p90_ms": round(ranked[int(len(ranked) * 0.9)] * 1e3, 3),
        "p99_ms": round(ranked[int(len(ranked) * 0.99)] * 1e3, 3),
    }


def measure(folder: Path, seconds: float) -> dict[str, object]:
    torch.set_num_threads(1)
    engine = make_engine(folder)
    core = make_core(engine)
    for stream in range(STREAMS):
        core.start_local(work(f"stream-{stream}", [stream + place for place in range(64)], max_tokens=2000))
    for _ in range(40):
        core.advance()
    kinds: dict[str, list[tuple[float, float]]] = {"landing": [], "without": []}
    with ThreadPoolExecutor(max_workers=1) as offload:
        arrivals = Arrivals(core, engine.layout.page_bytes, offload)
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            arrivals.begin()
            for turn in range(2 * TURNS):
                arrivals.turn()
                before, wall, cpu = core.counters.landed_bytes, time.perf_counter(), time.thread_time()
                core.advance()
                taken = time.perf_counter() - wall, time.thread_time() - cpu
                core.take_events()
                has_landed = core.counters.landed_bytes > before
                if has_landed or turn >= TURNS:
                    kinds["landing" if has_landed else "without"].append(taken)
            arrivals.end()
    figures: dict[str, object] = {"load_average": os.getloadavg()[0], "landed_mib": core.counters.landed_bytes >> 20}
    for place, clock in enumerate(("wall", "cpu")):
        ways = {kind: spread([each[place] for each in taken]) for kind, taken in kinds.items()}
        ratios = {
            name: round(ways["landing"][name] / ways["without"][name], 3) for name in ("p50_ms", "p90_ms", "p99_ms")
        }
        figures[clock] = {**ways, "ratio": ratios}
    return figures


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 20.0), indent=1))
