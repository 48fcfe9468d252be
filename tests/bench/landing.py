"""What landing takes from decode steps: `python -m tests.bench.landing MODEL_FOLDER [seconds]`.

One decode worker's core, step thread, lander and offload thread in this process: 8 answers run, prompts of 1,024 tokens
arrive, are verified and land as in a worker, and as many turns again are without arrivals. Prints one JSON object: wall
and CPU milliseconds of turns beside a landing and of those without, and their ratios. No network: what receiving takes
from a step is not in it (`baton bench transfer` has that). Pin it (`taskset -c 0`) to see both share one core.
"""

import asyncio
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import cast

import torch

from common.core.clock import SystemClock
from common.core.ids import Epoch, ReservationId, TransferId, WorkerId, WorkerRef
from common.engine.batch import Batch
from common.engine.loop import Turns
from common.engine.torch_executor import TorchExecutor
from common.kv.cache import PageCache
from common.kv.digest import DigestKey, digest_pages
from common.kv.pool import PagePool
from common.kv.prefix import PrefixIndex
from common.kv.torch_storage import TorchStorage
from common.model.load import load_model
from common.transfer.channel import Lent
from common.transfer.expectation import Arrival
from common.transfer.inbound import InboundTransfers
from common.transfer.messages import PageRun, Pair
from common.transfer.offload import ThreadOffload
from common.worker.engine import Engine
from common.worker.landing import Lander
from kernels.dispatch import Kernels, choose
from services.decode.app import compose
from services.decode.budget import ExtendBudget
from services.decode.core import DecodeCore
from services.decode.messages import DecodeEvent
from services.decode.scheduler import DecodeLimits
from tests.engine.rig import work

PAGE_SIZE, NUM_PAGES = 16, 1600
STREAMS, PROMPT_TOKENS = 8, 1024
RUN_PAGES = 32

KEY = DigestKey(bytes(range(32)))
PAIR = Pair(
    sender=WorkerRef(worker=WorkerId("p"), epoch=Epoch(1), address="p:1"),
    receiver=WorkerRef(worker=WorkerId("d"), epoch=Epoch(1), address="d:1"),
    nonce=1,
    channel="loopback",
)


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
        overcommit=4.0,
        lease_s=60.0,
        clock=SystemClock(),
        mint=lambda: ReservationId(f"res-{next(names)}"),
    )


class Arriving:
    """Promises one prompt at a time, verifies and lands its runs, and gives it up. In place of the transfer room."""

    def __init__(self, core: DecodeCore, turns: Turns[DecodeEvent], storage: TorchStorage) -> None:
        self._core = core
        self._turns = turns
        self._offload = ThreadOffload()
        self._lander = Lander(
            turns=turns,
            inbound=cast(InboundTransfers, self),
            storage=storage,
            offload=self._offload,
            piece_bytes=2 << 20,
            clock=SystemClock(),
        )
        self._page_bytes = storage.layout.page_bytes
        self._numbers = count()
        num_runs = PROMPT_TOKENS // PAGE_SIZE // RUN_PAGES
        self._buffers = [memoryview(bytearray(os.urandom(RUN_PAGES * self._page_bytes))) for _ in range(num_runs)]
        self.num_lent = 0
        self._is_idle = asyncio.Event()

    async def one(self) -> None:
        number = next(self._numbers)
        prompt = [(number * 7919 + place * 31) % 4001 for place in range(PROMPT_TOKENS)]
        given = work(f"arrival-{number}", prompt, max_tokens=8)
        promise = await self._turns.call(lambda: self._core.reserve(given))
        self._is_idle.clear()
        self.num_lent = len(self._buffers)
        for place, data in enumerate(self._buffers):
            await self._offload.run(partial(digest_pages, data, self._page_bytes, KEY))
            arrival = Arrival(
                transfer=TransferId(promise.reservation, 1),
                pair=PAIR,
                run=PageRun(first_page=place * RUN_PAGES, num_pages=RUN_PAGES),
                staging=cast(Lent, Plain(data)),
                num_bytes=len(data),
            )
            self._lander.add(arrival, promise.permit, self._core)
        await asyncio.wait_for(self._is_idle.wait(), 10.0)
        await self._turns.call(lambda: self._core.cancel(given.request, 1))

    async def run(self) -> None:
        await self._lander.run()

    def landed(self, _arrival: Arrival) -> None:
        self.num_lent -= 1
        if not self.num_lent:
            self._is_idle.set()

    def dropped(self, arrival: Arrival) -> None:
        raise AssertionError(f"{arrival.run} was not wanted")

    def close(self) -> None:
        self._offload.close()


@dataclass(frozen=True, slots=True)
class Plain:
    """A buffer that nobody waits for."""

    view: memoryview


def spread(values: Sequence[float]) -> dict[str, float]:
    ranked = sorted(values)
    return {
        "count": len(ranked),
        "p50_ms": round(statistics.median(ranked) * 1e3, 3),
        "p90_ms": round(ranked[int(len(ranked) * 0.9)] * 1e3, 3),
        "p99_ms": round(ranked[int(len(ranked) * 0.99)] * 1e3, 3),
    }


class Stepping(threading.Thread):
    """The step thread, with a watch: turns beside a landing, and those without."""

    def __init__(self, turns: Turns[DecodeEvent], is_landing: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self._turns = turns
        self._is_landing = is_landing
        self.is_over = False
        self.failure: BaseException | None = None
        self.kinds: dict[str, list[tuple[float, float]]] = {"landing": [], "without": []}

    def run(self) -> None:
        try:
            while not self.is_over:
                begins, wall, cpu = self._is_landing(), time.perf_counter(), time.thread_time()
                self._turns.turn()
                taken = time.perf_counter() - wall, time.thread_time() - cpu
                self.kinds["landing" if begins or self._is_landing() else "without"].append(taken)
        except Exception as error:  # noqa: BLE001  # told by whoever waits
            self.failure = error
        self._turns.end()


async def measure(folder: Path, seconds: float) -> dict[str, object]:
    torch.set_num_threads(1)
    engine = make_engine(folder)
    core = make_core(engine)
    for stream in range(STREAMS):
        core.start_local(work(f"stream-{stream}", [stream + place for place in range(64)], max_tokens=4000))
    for _ in range(40):
        core.advance()
    turns: Turns[DecodeEvent] = Turns(core, deliver=lambda _events: None)
    arriving = Arriving(core, turns, cast(TorchStorage, engine.storage))
    stepping = Stepping(turns, lambda: arriving.num_lent > 0)
    landing = asyncio.create_task(arriving.run())
    stepping.start()
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends and stepping.failure is None:
        began = time.perf_counter()
        await arriving.one()
        # As long again and more without: the two kinds alternate within seconds.
        await asyncio.sleep(2 * (time.perf_counter() - began))
    stepping.is_over = True
    landing.cancel()
    await asyncio.wait([landing], timeout=10.0)
    stepping.join(10.0)
    arriving.close()
    if stepping.failure is not None:
        raise stepping.failure
    figures: dict[str, object] = {"load_average": os.getloadavg()[0], "landed_mib": core.counters.landed_bytes >> 20}
    for place, clock in enumerate(("wall", "cpu")):
        ways = {kind: spread([each[place] for each in taken]) for kind, taken in stepping.kinds.items()}
        ratios = {
            name: round(ways["landing"][name] / ways["without"][name], 3) for name in ("p50_ms", "p90_ms", "p99_ms")
        }
        figures[clock] = {**ways, "ratio": ratios}
    return figures


if __name__ == "__main__":
    length_s = float(sys.argv[2]) if len(sys.argv) > 2 else 20.0
    print(json.dumps(asyncio.run(measure(Path(sys.argv[1]), length_s)), indent=1))
