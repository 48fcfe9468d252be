"""Famous bugs of page pools and prefix caches, put back on purpose: tests/kv/test_mutants.py kills each."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from common.core.ids import PageId, PageRef, PrefixHash, TokenId
from common.kv.cache import PageCache
from common.kv.pool import PagePool


class ForgetToFree(PagePool):
    """The page's life ends, but it never comes back to the free list."""

    def _settle(self, page: int) -> None:
        super()._settle(page)
        if self._free and self._free[-1] == page:
            self._free.pop()


class ForgetToFreeAfterWrite(PagePool):
    """The reader left first; whoever ends the write forgets to look."""

    def end_write(self, refs: Collection[PageRef]) -> tuple[PageId, ...]:
        for ref in refs:
            self._writers[ref.page] -= 1
        return ()


class DoubleFree(PagePool):
    """The page is on the free list twice, and so given to two owners."""

    def _settle(self, page: int) -> None:
        super()._settle(page)
        if self._free and self._free[-1] == page:
            self._free.append(page)


class FreeUnderWriter(PagePool):
    """An abort frees the page although a transfer may still land in it."""

    def release(self, refs: Collection[PageRef]) -> tuple[PageId, ...]:
        for ref in refs:
            if self._readers[ref.page] == 1:
                self._writers[ref.page] = 0
        return super().release(refs)

    def end_write(self, refs: Collection[PageRef]) -> tuple[PageId, ...]:
        still = [ref for ref in refs if self.is_current(ref) and self._writers[ref.page]]
        return super().end_write(still)


class SkipGenerationCheck(PagePool):
    """Late bytes land wherever they say."""

    def check(self, ref: PageRef) -> None:
        pass


class KeepGeneration(PagePool):
    """A freed page begins its next life under the old generation."""

    def _settle(self, page: int) -> None:
        super()._settle(page)
        if self._free and self._free[-1] == page:
            self._generations[page] -= 1


class ForgetReader(PagePool):
    """A second reader is not counted."""

    def retain(self, refs: Collection[PageRef]) -> None:
        super().retain(refs)
        for ref in refs:
            if self._readers[ref.page] > 1:
                self._readers[ref.page] -= 1


class FreeBeforeWithdraw(PageCache):
    """An evicted page is freed, and its prefix still found."""

    def _give_up(self, page: PageId) -> None:
        self._index.mark_busy(page)
        self._pool.unkeep(page)


class WithdrawInSilence(PageCache):
    """An evicted page leaves the index, but the directory is never told."""

    def _give_up(self, page: PageId) -> None:
        self._index.remove(page)
        self._pool.unkeep(page)


class TrustHash(PageCache):
    """A hit is a hit: token ids are not compared."""

    def match(self, hashes: Sequence[PrefixHash], tokens: Sequence[TokenId]) -> tuple[PageRef, ...]:
        found: list[PageRef] = []
        for prefix in hashes[: len(tokens) // self._page_size]:
            entry = self._index.find(prefix)
            if entry is None:
                break
            found.append(entry.ref)
        self.retain(found)
        return tuple(found)


class EvictTheBusy(PageCache):
    """A page that was idle once stays in the order of eviction while somebody reads it again."""

    def retain(self, refs: Sequence[PageRef]) -> None:
        self._pool.retain(refs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A bug and the check that must kill it, whichever others do too."""

    pool: type[PagePool] = PagePool
    cache: type[PageCache] = PageCache
    killer: str

    @property
    def name(self) -> str:
        return self.cache.__name__ if self.pool is PagePool else self.pool.__name__


MUTANTS = (
    Mutant(pool=ForgetToFree, killer="freed pages come back"),
    Mutant(pool=ForgetToFreeAfterWrite, killer="a page comes back after its last writer"),
    Mutant(pool=DoubleFree, killer="no page has two owners"),
    Mutant(pool=FreeUnderWriter, killer="no page is reused under a writer"),
    Mutant(pool=SkipGenerationCheck, killer="late bytes are fenced"),
    Mutant(pool=KeepGeneration, killer="late bytes are fenced"),
    Mutant(pool=ForgetReader, killer="a shared page outlives its first reader"),
    Mutant(cache=FreeBeforeWithdraw, killer="an evicted prefix is not found"),
    Mutant(cache=WithdrawInSilence, killer="an evicted prefix is withdrawn"),
    Mutant(cache=TrustHash, killer="token ids are compared"),
    Mutant(cache=EvictTheBusy, killer="a page that is read is not evicted"),
)
