"""Fresh page memory is touched while a step loop rests, and never under anybody."""

import random

from common.core.ids import PageId, PageRef
from common.engine.fresh_pages import TIMES_USED, FreshPages
from common.kv.cache import PageCache
from common.kv.pool import PagePool
from common.kv.prefix import PrefixIndex
from common.kv.sim_layout import sim_layout
from common.kv.sim_storage import SimStorage

NUM_PAGES = 64


def parts() -> tuple[FreshPages, PageCache, SimStorage]:
    """Over pages that are full of something, so that a touch shows."""
    storage = SimStorage(sim_layout(), NUM_PAGES)
    for page in range(NUM_PAGES):
        storage.page(PageId(page))[:] = b"\x5a" * storage.layout.page_bytes
    cache = PageCache(PagePool(NUM_PAGES), PrefixIndex(), page_size=storage.layout.page_size)
    return FreshPages(cache, storage), cache, storage


def touched(storage: SimStorage) -> set[int]:
    return {page for page in range(NUM_PAGES) if not any(storage.page(PageId(page)))}


def take(cache: PageCache, count: int) -> tuple[PageRef, ...]:
    refs = cache.allocate(count)
    assert refs is not None
    return refs


def test_a_worker_that_nobody_asked_takes_no_memory() -> None:
    fresh, _, storage = parts()
    assert not fresh.touch()
    assert not touched(storage)


def test_as_many_pages_are_touched_ahead_as_were_used_a_few_times_over() -> None:
    fresh, cache, storage = parts()
    take(cache, 5)
    while fresh.touch():
        pass
    assert touched(storage) == set(range(5, 5 + 5 * TIMES_USED))


def test_touching_ends_with_the_pool() -> None:
    fresh, cache, storage = parts()
    cache.release(take(cache, NUM_PAGES - 1))
    while fresh.touch():
        pass
    assert touched(storage) == {NUM_PAGES - 1}


def test_no_page_that_anybody_ever_held_is_touched() -> None:
    """Goal: what was written stays. Method: pages are taken, written, given back in any order and sometimes all at once
    between two touches; what was written to is compared after each."""
    seed = random.Random().getrandbits(32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    fresh, cache, storage = parts()
    held: list[PageRef] = []
    ever: set[int] = set()
    for _ in range(300):
        if draw.random() < 0.5 and cache.available() > 8:
            new = take(cache, draw.randint(0, 8))
            for ref in new:
                storage.page(ref.page)[:] = b"\x77" * storage.layout.page_bytes
            held += new
            ever |= {ref.page for ref in new}
        elif held:
            draw.shuffle(held)
            cut = draw.randint(0, len(held))
            cache.release(held[:cut])
            held = held[cut:]
        if draw.random() < 0.5:
            fresh.touch()
        assert not touched(storage) & ever
