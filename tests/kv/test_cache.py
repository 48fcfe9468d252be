"""The page cache: prefixes found again, room made in the right order, the directory never told too much."""

import pytest

from common.core.ids import PageId, PageRef, PrefixHash, TokenId
from common.kv.cache import PageCache
from common.kv.hashing import PrefixChain, scope_key
from common.kv.pool import PagePool, PageState
from common.kv.prefix import PrefixIndex
from common.kv.sim_layout import sim_layout

PAGE_SIZE = 4
LAYOUT = sim_layout(page_size=PAGE_SIZE)


class Rig:
    """A cache over a small pool, and contexts that were computed into it."""

    def __init__(self, num_pages: int) -> None:
        self.pool = PagePool(num_pages)
        self.cache = PageCache(self.pool, PrefixIndex(), page_size=PAGE_SIZE)

    def chain(self, tokens: list[TokenId], tenant: str = "default") -> PrefixChain:
        chain = PrefixChain(scope=scope_key(tenant, "", b"sixteen byte key"), layout=LAYOUT)
        chain.extend(tokens)
        return chain

    def compute(self, tokens: list[TokenId], tenant: str = "default") -> tuple[PageRef, ...]:
        """Allocate a context's pages and register the full ones. The caller holds them."""
        refs = self.cache.allocate(LAYOUT.pages_for(len(tokens)))
        assert refs is not None
        parent: PrefixHash | None = None
        for index, prefix in enumerate(self.chain(tokens, tenant).hashes):
            page = tokens[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]
            self.cache.register(refs[index], prefix, page, parent=parent)
            parent = prefix
        return refs

    def match(self, tokens: list[TokenId], tenant: str = "default") -> tuple[PageRef, ...]:
        return self.cache.match(self.chain(tokens, tenant).hashes, tokens)


def tokens_of(first: int, count: int) -> list[TokenId]:
    return [TokenId(token) for token in range(first, first + count)]


def test_a_finished_context_is_found_again_up_to_its_last_full_page() -> None:
    rig = Rig(8)
    refs = rig.compute(tokens_of(0, 10))
    rig.cache.release(refs)
    rig.cache.audit()
    assert rig.match(tokens_of(0, 10)) == refs[:2]
    assert rig.cache.counts().referenced == 2
    rig.cache.audit()


def test_who_doubts_a_page_of_former_times_takes_nothing_from_whoever_has_it_now() -> None:
    rig = Rig(2)
    former = rig.compute(tokens_of(0, 8))
    rig.cache.release(former)
    now = rig.compute(tokens_of(50, 8))
    assert {ref.page for ref in now} == {ref.page for ref in former}
    rig.cache.forget(former)
    assert rig.match(tokens_of(50, 8)) == now
    rig.cache.audit()


def test_a_running_context_lends_its_full_pages() -> None:
    rig = Rig(8)
    refs = rig.compute(tokens_of(0, 10))
    assert rig.match(tokens_of(0, 9)) == refs[:2]
    assert [rig.cache.readers(ref) for ref in refs] == [2, 2, 1]


def test_a_match_never_takes_the_token_that_the_caller_left_out() -> None:
    rig = Rig(8)
    rig.compute(tokens_of(0, 8))
    tokens = tokens_of(0, 8)
    assert len(rig.cache.match(rig.chain(tokens).hashes, tokens)) == 2
    assert len(rig.cache.match(rig.chain(tokens).hashes, tokens[:-1])) == 1


def test_a_match_ends_at_the_first_page_that_differs() -> None:
    rig = Rig(8)
    rig.compute(tokens_of(0, 12))
    assert len(rig.match(tokens_of(0, 4) + tokens_of(50, 8))) == 1
    found = rig.cache.counters()
    assert (found.hits, found.misses) == (1, 2)


def test_another_tenant_finds_nothing() -> None:
    rig = Rig(8)
    rig.compute(tokens_of(0, 8))
    assert rig.match(tokens_of(0, 8), tenant="another") == ()


def test_equal_hashes_with_other_tokens_are_a_counted_miss() -> None:
    """Forged: tokens that are not what the hashes say."""
    rig = Rig(8)
    rig.compute(tokens_of(0, 8))
    hashes = rig.chain(tokens_of(0, 8)).hashes
    assert rig.cache.match(hashes, tokens_of(90, 8)) == ()
    assert rig.cache.counters().collisions == 1
    assert rig.cache.counters().hits == 0


def test_the_longest_unused_context_goes_first_and_its_last_page_before_its_first() -> None:
    rig = Rig(4)
    old, new = rig.compute(tokens_of(0, 8)), rig.compute(tokens_of(100, 8))
    rig.cache.release(old)
    rig.cache.release(new)
    rig.cache.release(rig.match(tokens_of(0, 4)))  # the old context's first page is used once more
    rig.cache.drain_changes()
    order: list[PrefixHash] = []
    for _ in range(4):
        rig.cache.allocate(1)
        order.extend(rig.cache.drain_changes().withdrawn)
    old_chain, new_chain = rig.chain(tokens_of(0, 8)).hashes, rig.chain(tokens_of(100, 8)).hashes
    assert order == [old_chain[1], new_chain[1], new_chain[0], old_chain[0]]
    assert rig.cache.counters().evictions == 4
    rig.cache.audit()


def test_pages_that_somebody_reads_are_never_evicted() -> None:
    rig = Rig(4)
    held = rig.compute(tokens_of(0, 8))
    rig.cache.release(rig.compute(tokens_of(100, 8)))
    assert rig.cache.available() == 2
    assert rig.cache.allocate(3) is None
    assert rig.cache.promise(3) is None
    assert rig.cache.counters().refusals == 2
    assert rig.cache.counters().evictions == 0, "a refusal must not evict"
    assert rig.cache.promise(2) is not None
    assert all(rig.cache.is_current(ref) for ref in held)
    rig.cache.audit()


def test_an_evicted_page_is_withdrawn_before_it_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(1)
    rig.cache.release(rig.compute(tokens_of(0, 4)))
    (prefix,) = rig.chain(tokens_of(0, 4)).hashes
    rig.cache.drain_changes()
    withdrawn_at_free: list[tuple[PrefixHash, ...]] = []
    unkeep = rig.pool.unkeep

    def watch(page: PageId) -> None:
        withdrawn_at_free.append(rig.cache.drain_changes().withdrawn)
        unkeep(page)

    monkeypatch.setattr(rig.pool, "unkeep", watch)
    assert rig.cache.allocate(1) is not None
    assert withdrawn_at_free == [(prefix,)]


def test_changes_come_in_runs_of_one_chain_each() -> None:
    rig = Rig(8)
    rig.compute(tokens_of(0, 12))
    rig.compute(tokens_of(100, 8))
    expected = (tuple(rig.chain(tokens_of(0, 12)).hashes), tuple(rig.chain(tokens_of(100, 8)).hashes))
    assert rig.cache.drain_changes().published == expected
    assert rig.cache.drain_changes().is_empty


def test_the_second_page_with_the_same_prefix_stays_private() -> None:
    rig = Rig(4)
    first, second = rig.compute(tokens_of(0, 4)), rig.compute(tokens_of(0, 4))
    assert rig.cache.counters().duplicates == 1
    rig.cache.release(second)
    assert rig.pool.state(second[0].page) is PageState.FREE
    assert rig.match(tokens_of(0, 4)) == first


def test_a_reset_frees_idle_pages_at_once_and_running_ones_when_they_end() -> None:
    rig = Rig(6)
    running = rig.compute(tokens_of(0, 8))
    rig.cache.release(rig.compute(tokens_of(100, 8)))
    rig.cache.drain_changes()
    rig.cache.reset()
    rig.cache.audit()
    assert rig.cache.counts().free == 4
    assert len(rig.cache.drain_changes().withdrawn) == 4
    assert rig.match(tokens_of(0, 8)) == ()
    rig.cache.release(running)
    assert rig.cache.counts().free == 6


def test_a_fulfilled_promise_is_registered_like_a_computed_page() -> None:
    rig = Rig(2)
    tokens = tokens_of(0, 4)
    refs = rig.cache.promise(1)
    assert refs is not None
    rig.cache.begin_write(refs)
    rig.cache.check(refs[0])
    rig.cache.end_write(refs)
    rig.cache.fulfil(refs)
    rig.cache.register(refs[0], rig.chain(tokens).hashes[0], tokens)
    rig.cache.release(refs)
    assert rig.match(tokens) == refs


class TestBugs:
    """A bug in the caller fails an assertion."""

    def test_registering_a_promised_page(self) -> None:
        rig = Rig(1)
        refs = rig.cache.promise(1)
        assert refs is not None
        with pytest.raises(AssertionError, match="before it was filled"):
            rig.cache.register(refs[0], rig.chain(tokens_of(0, 4)).hashes[0], tokens_of(0, 4))

    def test_registering_one_page_under_two_prefixes(self) -> None:
        rig = Rig(1)
        refs = rig.compute(tokens_of(0, 4))
        with pytest.raises(AssertionError, match="kept twice"):
            rig.cache.register(refs[0], rig.chain(tokens_of(9, 4)).hashes[0], tokens_of(9, 4))

    def test_registering_a_page_that_is_not_full(self) -> None:
        rig = Rig(1)
        refs = rig.cache.allocate(1)
        assert refs is not None
        with pytest.raises(AssertionError, match="3 tokens"):
            rig.cache.register(refs[0], rig.chain(tokens_of(0, 4)).hashes[0], tokens_of(0, 3))
