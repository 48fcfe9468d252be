"""What announcing the next frame ahead wins: `python -m tests.bench.announcing [--pages 20] [--frames 60]`.

Two processes with whole endpoints over gRPC, per channel that a CPU has. The same frames go alternately over a link
that announces one at a time and over one that announces the next while it carries; each is offered, carried, verified,
and dropped at the receiver. Bound: what the bytes alone take on the data plane, in the same runs.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from common.core.clock import SystemClock
from common.core.ids import Epoch, WorkerId, WorkerRef
from common.kv.digest import DIGEST_BYTES, digest_pages
from common.transfer.link import Link
from common.transfer.messages import PageRun
from tests.transfer.two_processes import LAYOUT, LIMITS, RUN_PAGES, page, working

CHANNELS = ("same_host", "gloo")
WINDOWS = (1, 2)
ROUNDS = 5
MIB, MS = 1 << 20, 1e3
CLOCK = SystemClock()


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One round over one link, in seconds: all frames, and the bytes alone."""

    whole_s: float
    bytes_s: float


async def main() -> None:
    arguments = parse()
    if arguments.serve:
        await serve(arguments.serve)
        return
    rows = [await compare(channel, arguments.pages, arguments.frames) for channel in CHANNELS]
    for row in rows:
        print(json.dumps(row))
    if arguments.out:
        machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


async def compare(channel: str, pages: int, frames: int) -> dict[str, object]:
    """Medians of the rounds, and of their ratios."""
    child = subprocess.Popen(  # noqa: ASYNC220  # starts at once; its output is read on a thread
        [sys.executable, "-m", "tests.bench.announcing", "--serve", channel], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        name, epoch, address = (await asyncio.to_thread(child.stdout.readline)).split()
        receiver = WorkerRef(worker=WorkerId(name), epoch=Epoch(int(epoch)), address=address)
        async with AsyncExitStack() as stack:
            links = {}
            for window in WINDOWS:
                limits = replace(LIMITS, max_announced=window)
                endpoint, _ = await stack.enter_async_context(working(f"p{window}", channel, limits))
                links[window] = await endpoint._links.hold(receiver)
                await measure(links[window], pages, 4)
            rounds = [
                {window: await measure(links[window], pages, frames) for window in WINDOWS} for _ in range(ROUNDS)
            ]
    finally:
        child.kill()
        child.wait(timeout=10)
    one, ahead = ([each[window] for each in rounds] for window in WINDOWS)
    return {
        "channel": channel,
        "frame_mib": pages * LAYOUT.page_bytes / MIB,
        "bytes_ms_per_frame": median(each.bytes_s for each in one) / frames * MS,
        "one_at_a_time_ms_per_frame": median(each.whole_s for each in one) / frames * MS,
        "ahead_ms_per_frame": median(each.whole_s for each in ahead) / frames * MS,
        "ratio": median(new.whole_s / old.whole_s for old, new in zip(one, ahead, strict=True)),
    }


async def measure(link: Link, pages: int, frames: int) -> Sample:
    run = PageRun(first_page=0, num_pages=pages)
    data = memoryview(bytearray(b"".join(page(index) for index in range(pages))))
    digests = b"".join(digest_pages(data, LAYOUT.page_bytes, link.digest_key))
    assert len(digests) == pages * DIGEST_BYTES
    began = CLOCK.monotonic()
    seconds = await asyncio.gather(*(link.carry(None, run, data, digests=digests) for _ in range(frames)))
    return Sample(whole_s=CLOCK.monotonic() - began, bytes_s=sum(seconds))


async def serve(channel: str) -> None:
    async with working("d", channel) as (endpoint, address):
        print(endpoint.me.worker, endpoint.me.epoch, address, flush=True)
        await asyncio.sleep(120)  # the parent ends it sooner


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=RUN_PAGES, help=f"of {LAYOUT.page_bytes} bytes, at most 20")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
