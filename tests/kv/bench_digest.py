"""Measure the page digest: `python -m tests.kv.bench_digest`. Bound: one pass over memory; bar: 25 MiB in 8 ms.

Prints one JSON line per page size: milliseconds and GB/s of native code and of numpy, and GB/s of a copy of the same
bytes, all in turn. One thread, best and median of 20 after one warm-up. Exit code 1 when the best is over the bar. Not
part of the test suite: with more busy processes than cores it measures them.
"""

import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from unittest.mock import patch

import numpy as np

from common.kv import digest
from common.kv.digest import DigestKey, digest_pages
from kernels.cpu.library import load

TOTAL_BYTES = 25 * 2**20
REPEATS = 20
BAR_MS = 8.0


def seconds_of(way: Callable[[], object]) -> float:
    begin = time.perf_counter()
    way()
    return time.perf_counter() - begin


def measure(page_bytes: int) -> dict[str, float]:
    """To digest about 25 MiB of random pages; `native_to_copy` is the median of ratios turn by turn."""
    num_pages = TOTAL_BYTES // page_bytes
    view = memoryview(bytearray(random.Random(1).randbytes(num_pages * page_bytes)))
    source, target = np.frombuffer(view, dtype=np.uint8), np.zeros(view.nbytes, dtype=np.uint8)
    key = DigestKey(bytes(range(32)))

    def numpy_digest() -> None:
        with patch.object(digest, "loaded_native", lambda: None):
            digest_pages(view, page_bytes, key)

    load()
    ways = {
        "copy": lambda: np.copyto(target, source),
        "native": lambda: digest_pages(view, page_bytes, key),
        "numpy": numpy_digest,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(REPEATS + 1):
        for name, way in ways.items():
            taken_s = seconds_of(way)
            if repeat:
                seconds[name].append(taken_s)
    figures: dict[str, float] = {"page_bytes": page_bytes, "num_pages": num_pages}
    for name, taken in seconds.items():
        figures[f"{name}_best_ms"] = round(min(taken) * 1e3, 3)
        figures[f"{name}_median_ms"] = round(statistics.median(taken) * 1e3, 3)
        figures[f"{name}_best_gb_per_s"] = round(view.nbytes / min(taken) / 1e9, 2)
    pairs = zip(seconds["copy"], seconds["native"], strict=True)
    figures["native_to_copy"] = round(statistics.median(copy / native for copy, native in pairs), 2)
    figures["load_average"] = round(os.getloadavg()[0], 2)
    return figures


if __name__ == "__main__":
    results = [measure(page_bytes) for page_bytes in (98304, 131072, 196608)]
    for result in results:
        print(json.dumps(result))
    sys.exit(any(result["native_best_ms"] > BAR_MS for result in results))
