"""The page pool: two counts and a generation, and a bug is caught before anything changed."""

import pytest

from common.core.errors import Fenced, Reason
from common.core.ids import Generation, PageId, PageRef
from common.core.worker import PageCounts
from common.kv.pool import PagePool, PageState


def allocate(pool: PagePool, count: int) -> tuple[PageRef, ...]:
    refs = pool.allocate(count)
    assert refs is not None
    return refs


def promise(pool: PagePool, count: int) -> tuple[PageRef, ...]:
    refs = pool.promise(count)
    assert refs is not None
    return refs


def counts(pool: PagePool) -> tuple[int, int, int, int]:
    pool.audit()
    found = pool.counts()
    return found.free, found.promised, found.referenced, found.cached


def test_a_promised_page_walks_its_whole_journey() -> None:
    pool = PagePool(4)
    (ref,) = promise(pool, 1)
    journey = [pool.state(ref.page)]
    pool.begin_write([ref])
    journey.append(pool.state(ref.page))
    assert pool.end_write([ref]) == ()
    journey.append(pool.state(ref.page))
    pool.fulfil([ref])
    journey.append(pool.state(ref.page))
    pool.keep(ref.page)
    assert pool.release([ref]) == (ref.page,)
    journey.append(pool.state(ref.page))
    pool.unkeep(ref.page)
    journey.append(pool.state(ref.page))
    assert journey == [
        PageState.PROMISED,
        PageState.FILLING,
        PageState.PROMISED,
        PageState.ACTIVE,
        PageState.CACHED,
        PageState.FREE,
    ]
    assert counts(pool) == (4, 0, 0, 0)


def test_states_sum_to_the_total_at_every_moment() -> None:
    pool = PagePool(10)
    allocated, promised = allocate(pool, 3), promise(pool, 4)
    assert counts(pool) == (3, 4, 3, 0)
    pool.begin_write(promised[:2])
    pool.release(promised)
    assert counts(pool) == (5, 2, 3, 0)
    pool.keep(allocated[0].page)
    pool.release(allocated)
    assert counts(pool) == (7, 2, 0, 1)
    pool.end_write(promised[:2])
    assert counts(pool) == (9, 0, 0, 1)
    assert pool.counts() == PageCounts(total=10, free=9, promised=0, referenced=0, cached=1)


def test_pages_leave_in_a_fixed_order_and_the_last_freed_is_reused_first() -> None:
    pool = PagePool(4)
    refs = allocate(pool, 3)
    assert [ref.page for ref in refs] == [0, 1, 2]
    pool.release([refs[1]])
    assert [ref.page for ref in allocate(pool, 2)] == [1, 3]


def test_too_few_free_pages_is_a_counted_no_that_changes_nothing() -> None:
    pool = PagePool(3)
    allocate(pool, 2)
    assert pool.allocate(2) is None
    assert pool.promise(2) is None
    assert counts(pool) == (1, 0, 2, 0)
    assert pool.counters().refusals == 2
    assert pool.allocate(0) == ()


def test_a_page_with_a_writer_is_not_reused_after_its_last_reader_left() -> None:
    pool = PagePool(1)
    refs = promise(pool, 1)
    pool.begin_write(refs)
    pool.begin_write(refs)
    assert pool.release(refs) == ()
    assert pool.state(refs[0].page) is PageState.FILLING
    assert pool.allocate(1) is None
    pool.check(refs[0])
    assert pool.end_write(refs) == ()
    assert pool.end_write(refs) == (refs[0].page,)
    assert pool.counters().deferred == 1
    assert allocate(pool, 1)[0].generation != refs[0].generation


def test_an_aborted_promise_without_writer_is_free_at_once() -> None:
    pool = PagePool(2)
    refs = promise(pool, 2)
    assert pool.release(refs) == (0, 1)
    assert counts(pool) == (2, 0, 0, 0)


def test_several_readers_share_a_page_until_the_last_one_leaves() -> None:
    pool = PagePool(1)
    refs = allocate(pool, 1)
    pool.retain(refs)
    assert pool.readers(refs[0]) == 2
    assert pool.release(refs) == ()
    assert pool.release(refs) == (0,)


def test_a_cached_page_comes_back_with_the_same_generation() -> None:
    pool = PagePool(1)
    refs = allocate(pool, 1)
    pool.keep(refs[0].page)
    pool.release(refs)
    pool.retain(refs)
    assert (pool.state(refs[0].page), pool.readers(refs[0])) == (PageState.ACTIVE, 1)
    pool.unkeep(refs[0].page)
    assert pool.state(refs[0].page) is PageState.ACTIVE
    assert pool.release(refs) == (0,)
    assert counts(pool) == (1, 0, 0, 0)


def test_a_reference_to_a_former_life_is_fenced_with_ids_and_numbers() -> None:
    pool = PagePool(1)
    refs = promise(pool, 1)
    pool.release(refs)
    assert not pool.is_current(refs[0])
    with pytest.raises(Fenced, match="page 0 is in generation 2, the caller holds 1") as caught:
        pool.check(refs[0])
    assert caught.value.reason is Reason.STALE_GENERATION
    assert caught.value.facts == {"page": "0", "generation": "2", "claimed": "1"}
    assert pool.counters().fenced == 1
    pool.check(promise(pool, 1)[0])


@pytest.mark.parametrize("page", [-1, 1, 99])
def test_a_page_that_does_not_exist_is_fenced_too(page: int) -> None:
    with pytest.raises(Fenced, match=f"page {page} "):
        PagePool(1).check(PageRef(PageId(page), Generation(1)))


def test_the_counters_count_pages() -> None:
    pool = PagePool(4)
    pool.release(allocate(pool, 3))
    pool.release(promise(pool, 2))
    found = pool.counters()
    assert (found.allocated, found.promised, found.freed) == (3, 2, 5)


class TestBugs:
    """Each of these is a bug in the caller: an assertion fails, and nothing has changed."""

    @pytest.mark.parametrize("act", ["release", "retain", "fulfil", "begin_write", "end_write"])
    def test_naming_a_page_twice_in_one_call(self, act: str) -> None:
        pool = PagePool(2)
        refs = promise(pool, 1)
        with pytest.raises(AssertionError, match="named twice"):
            getattr(pool, act)([refs[0], refs[0]])
        assert pool.readers(refs[0]) == 1

    @pytest.mark.parametrize("act", ["release", "retain", "fulfil", "begin_write", "end_write"])
    def test_naming_a_page_of_a_former_life(self, act: str) -> None:
        pool = PagePool(2)
        stale, current = promise(pool, 1), promise(pool, 1)
        pool.release(stale)
        with pytest.raises(AssertionError, match="is not current"):
            getattr(pool, act)([current[0], stale[0]])
        assert (pool.readers(current[0]), pool.writers(current[0])) == (1, 0)

    def test_releasing_twice(self) -> None:
        pool = PagePool(1)
        refs = allocate(pool, 1)
        pool.release(refs)
        with pytest.raises(AssertionError, match="is not current"):
            pool.release(refs)
        assert counts(pool) == (1, 0, 0, 0)

    def test_releasing_a_cached_page(self) -> None:
        pool = PagePool(1)
        refs = allocate(pool, 1)
        pool.keep(refs[0].page)
        pool.release(refs)
        with pytest.raises(AssertionError, match="no reader"):
            pool.release(refs)

    def test_retaining_a_free_page_by_its_next_generation(self) -> None:
        with pytest.raises(AssertionError, match="nobody holds it"):
            PagePool(1).retain([PageRef(PageId(0), Generation(1))])

    def test_retaining_a_page_before_it_is_filled(self) -> None:
        pool = PagePool(1)
        with pytest.raises(AssertionError, match="before it was filled"):
            pool.retain(promise(pool, 1))

    def test_writing_into_a_page_that_has_content(self) -> None:
        pool = PagePool(1)
        with pytest.raises(AssertionError, match="has content already"):
            pool.begin_write(allocate(pool, 1))

    def test_beginning_a_write_for_a_request_that_is_gone(self) -> None:
        pool = PagePool(1)
        refs = promise(pool, 1)
        pool.begin_write(refs)
        pool.release(refs)
        with pytest.raises(AssertionError, match="no reader"):
            pool.begin_write(refs)

    def test_ending_a_write_that_never_began(self) -> None:
        pool = PagePool(1)
        with pytest.raises(AssertionError, match="no writer"):
            pool.end_write(promise(pool, 1))

    def test_fulfilling_under_a_writer(self) -> None:
        pool = PagePool(1)
        refs = promise(pool, 1)
        pool.begin_write(refs)
        with pytest.raises(AssertionError, match="under 1 writers"):
            pool.fulfil(refs)

    def test_fulfilling_what_nobody_promised(self) -> None:
        pool = PagePool(1)
        with pytest.raises(AssertionError, match="nobody promised"):
            pool.fulfil(allocate(pool, 1))

    def test_keeping_a_free_a_promised_or_a_kept_page(self) -> None:
        pool = PagePool(3)
        (promised,), (active,) = promise(pool, 1), allocate(pool, 1)
        pool.keep(active.page)
        for page, complaint in ((2, "nobody holds"), (promised.page, "before it was filled"), (active.page, "twice")):
            with pytest.raises(AssertionError, match=complaint):
                pool.keep(PageId(page))
        pool.unkeep(active.page)
        with pytest.raises(AssertionError, match="is not kept"):
            pool.unkeep(active.page)


def test_pages_beyond_the_most_ever_taken_were_never_given_out() -> None:
    pool = PagePool(8)
    assert pool.num_used_ever == 0
    first, second = allocate(pool, 2), promise(pool, 3)
    pool.release(first)
    assert pool.num_used_ever == 5
    again = allocate(pool, 2)
    assert {ref.page for ref in again} == {ref.page for ref in first}
    assert pool.num_used_ever == 5
    pool.release((*second, *again))
    assert {ref.page for ref in allocate(pool, 6)} == set(range(6))
    assert pool.num_used_ever == 6
