"""The prefix index: names and the order of eviction, nothing else."""

import pytest

from common.core.ids import Generation, PageId, PageRef, PrefixHash
from common.kv.prefix import PrefixEntry, PrefixIndex


def entry(page: int, prefix: int | None = None) -> PrefixEntry:
    name = PrefixHash(bytes([page if prefix is None else prefix]) * 32)
    return PrefixEntry(prefix=name, ref=PageRef(PageId(page), Generation(1)), tokens=b"")


def index_of(*pages: int) -> PrefixIndex:
    index = PrefixIndex()
    for page in pages:
        index.add(entry(page))
    return index


def test_a_registered_page_is_found_by_prefix_and_by_page() -> None:
    index = index_of(3)
    assert index.find(entry(3).prefix) == index.find_page(PageId(3)) == entry(3)
    assert index.find(entry(4).prefix) is None
    assert index.find_page(PageId(4)) is None


def test_only_idle_pages_wait_for_eviction_longest_idle_first() -> None:
    index = index_of(1, 2, 3)
    assert index.least_recent() is None
    for page in (2, 1, 3):
        index.mark_idle(PageId(page))
    index.mark_busy(PageId(2))
    assert (index.least_recent(), index.num_idle) == (1, 2)
    index.mark_idle(PageId(2))
    index.remove(PageId(1))
    assert index.least_recent() == 3


def test_a_removed_page_leaves_no_trace() -> None:
    index = index_of(1)
    index.mark_idle(PageId(1))
    assert index.remove(PageId(1)) == entry(1)
    assert (len(index), index.num_idle, index.pages(), index.least_recent()) == (0, 0, (), None)


def test_one_prefix_or_one_page_twice_is_a_bug() -> None:
    index = index_of(1)
    with pytest.raises(AssertionError, match="is registered already"):
        index.add(entry(2, prefix=1))
    with pytest.raises(AssertionError, match="page 1 is registered already"):
        index.add(entry(1, prefix=2))


def test_an_unknown_or_idle_page_cannot_become_idle() -> None:
    index = index_of(1)
    index.mark_idle(PageId(1))
    with pytest.raises(AssertionError, match="idle already"):
        index.mark_idle(PageId(1))
    with pytest.raises(AssertionError, match="not registered"):
        index.mark_idle(PageId(2))
