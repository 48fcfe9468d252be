"""What a router's mirror of prefix ownership costs: `python -m tests.bench.mirror [--tokens 25000000] [--workers 8]`.

Bytes per cached token, the time to find who holds how much of a 100,000-token prompt, its hashing from token ids, the
time to take over a worker's snapshot (and the longest moment in which that holds up the event loop), and the time until
the memory of a worker that is gone is free again.
"""

import argparse
import json
import os
import platform
import random
import statistics
import tracemalloc
from collections.abc import Callable

from common.core.clock import SystemClock
from common.core.ids import PrefixHash, TokenId
from common.directory.codec import Snapshot
from common.directory.owners import OwnerTable, keys_of
from common.directory.predictions import Predictions
from common.directory.replica import OwnedPrefixes
from common.kv.hashing import prefix_hashes

PROMPT_TOKENS = 100_000
CLOCK = SystemClock()


def main() -> None:
    arguments = parse()
    chance = random.Random(1)
    pages_each = arguments.tokens // arguments.page_size // arguments.workers
    tokens = [TokenId(chance.randrange(100_000)) for _ in range(PROMPT_TOKENS)]
    hashes = prefix_hashes(tokens, arguments.page_size, bytes(32), bytes(32))
    snapshots = [
        Snapshot(sequence=1, joined=held(chance, hashes, number, pages_each)) for number in range(arguments.workers)
    ]
    figures: dict[str, float] = {}
    tracemalloc.start()
    kept = fill(snapshots)[0]
    figures["mirror_mib"] = tracemalloc.get_traced_memory()[0] / 2**20
    tracemalloc.stop()
    del kept
    table, owned, costs = fill(snapshots)
    figures |= costs
    figures["bytes_per_token"] = figures["mirror_mib"] * 2**20 / arguments.tokens
    figures |= {"owned_pages": sum(map(len, owned)), "distinct_pages": len(table)}
    predictions = Predictions()
    predictions.add(owned[0].slot, keys_of(hashes), 0.0)
    figures["lookup_ms_p50"], figures["lookup_ms_p99"] = timed(
        lambda: table.runs(keys_of(hashes), *predictions.tables(1.0)), 300
    )
    figures["hash_ms_p50"], figures["hash_ms_p99"] = timed(
        lambda: prefix_hashes(tokens, arguments.page_size, bytes(32), bytes(32)), 60
    )
    short = tokens[:1000]
    figures["hash_1k_ms_p50"], _ = timed(lambda: prefix_hashes(short, arguments.page_size, bytes(32), bytes(32)), 300)
    figures |= forget(table, owned[0])
    where = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(
        json.dumps(
            {"machine": where, **vars(arguments), **{name: round(value, 3) for name, value in figures.items()}},
            indent=1,
        )
    )


def fill(snapshots: list[Snapshot]) -> tuple[OwnerTable, list[OwnedPrefixes], dict[str, float]]:
    """A table with every worker's pages, and what the last one cost to take over."""
    table, costs = OwnerTable(), dict[str, float]()
    owned = [OwnedPrefixes(table) for _ in snapshots]
    for peer, snapshot in zip(owned, snapshots, strict=True):
        costs |= take_over(peer, snapshot)
    return table, owned, costs


def held(chance: random.Random, hashes: tuple[PrefixHash, ...], number: int, count: int) -> bytes:
    """Short hashes of one worker: a part of the prompt, longer for each worker, and strangers."""
    mine = [each[:16] for each in hashes[: len(hashes) * (number + 1) // 8]][:count]
    return b"".join(mine) + chance.randbytes(16 * (count - len(mine)))


def take_over(peer: OwnedPrefixes, snapshot: Snapshot) -> dict[str, float]:
    """How long a snapshot takes, and its longest step."""
    steps, longest, began = peer.restoring(snapshot), 0.0, CLOCK.monotonic()
    assert steps is not None
    at = began
    for _ in steps:
        now = CLOCK.monotonic()
        longest, at = max(longest, now - at), now
    return {"restore_ms": (CLOCK.monotonic() - began) * 1e3, "restore_longest_step_ms": longest * 1e3}


def forget(table: OwnerTable, peer: OwnedPrefixes) -> dict[str, float]:
    """A worker is gone: the moment itself, and the sweeps after it."""
    began = CLOCK.monotonic()
    peer.close()
    gone, longest = CLOCK.monotonic() - began, 0.0
    while True:
        at = CLOCK.monotonic()
        if not table.sweep():
            break
        longest = max(longest, CLOCK.monotonic() - at)
    return {"forget_ms": gone * 1e3, "sweep_ms": (CLOCK.monotonic() - began) * 1e3, "sweep_longest_ms": longest * 1e3}


def timed(what: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and 99th percentile, milliseconds."""
    taken = []
    for _ in range(repeats):
        began = CLOCK.monotonic()
        what()
        taken.append((CLOCK.monotonic() - began) * 1e3)
    return statistics.median(taken), sorted(taken)[int(0.99 * len(taken))]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=25_000_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--page-size", type=int, default=16)
    return parser.parse_args()


if __name__ == "__main__":
    main()
