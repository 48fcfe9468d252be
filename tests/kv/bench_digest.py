"""Measure the page digest: `python -m tests.kv.bench_digest`. Bound: one pass over memory; bar: 25 MiB in 8 ms.

Prints one JSON line per page size. One thread, best and median of 20 after one warm-up. Exit code 1 when the best is
over the bar. Not part of the test suite: with more busy processes than cores it measures them.
"""

import json
import os
import random
import statistics
import sys
import time

from common.kv.digest import DigestKey, digest_pages

TOTAL_BYTES = 25 * 2**20
REPEATS = 20
BAR_MS = 8.0


def measure(page_bytes: int) -> dict[str, float]:
    """Milliseconds and GB/s to digest about 25 MiB of random pages."""
    num_pages = TOTAL_BYTES // page_bytes
    view = memoryview(bytearray(random.Random(1).randbytes(num_pages * page_bytes)))
    key = DigestKey(bytes(range(32)))
    digest_pages(view, page_bytes, key)
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        digest_pages(view, page_bytes, key)
        seconds.append(time.perf_counter() - begin)
    return {
        "page_bytes": page_bytes,
        "num_pages": num_pages,
        "best_ms": round(min(seconds) * 1e3, 3),
        "median_ms": round(statistics.median(seconds) * 1e3, 3),
        "best_gb_per_s": round(view.nbytes / min(seconds) / 1e9, 2),
        "load_average": round(os.getloadavg()[0], 2),
    }


if __name__ == "__main__":
    results = [measure(page_bytes) for page_bytes in (98304, 131072, 196608)]
    for result in results:
        print(json.dumps(result))
    sys.exit(any(result["best_ms"] > BAR_MS for result in results))
