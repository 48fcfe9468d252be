"""The pages of a batch's sequences: how they grow, when they are lent to others, and when they go back."""

from collections import deque
from collections.abc import Iterable

from common.core.ids import PageId, PageRef
from common.core.step import PageCopy
from common.engine.kindred import shared_pages
from common.engine.sequence import Sequence
from common.kv.cache import PageCache
from common.kv.layout import PageLayout


class Holdings:
    """Writer of `Sequence.pages` and what goes with them. Owner: the batch.

    While a step is in flight (flight.py) what is given back waits for it; the pool sees it then.
    """

    def __init__(self, cache: PageCache, layout: PageLayout) -> None:
        self._cache = cache
        self._page_size = layout.page_size
        self._pages_for = layout.pages_for
        self._waiting: deque[list[tuple[PageRef, ...]]] = deque()
        """Contexts given back since each step in flight was launched."""

    # Steps in flight

    def depart(self) -> None:
        """A step was launched."""
        self._waiting.append([])

    def arrive(self) -> None:
        """The oldest step in flight was collected."""
        for pages in self._waiting.popleft():
            self._cache.release(pages)

    def give_back(self, pages: tuple[PageRef, ...]) -> None:
        """The pages of one context, in order. Full ones become cache."""
        if self._waiting:
            self._waiting[-1].append(pages)
        else:
            self._cache.release(pages)

    # One sequence

    def find(self, sequence: Sequence) -> None:
        """Begin with what the cache holds of its context, but for the last token: a draw needs its logits."""
        assert not sequence.pages, f"{sequence.id} begins while it holds {len(sequence.pages)} pages"
        known = not sequence.wants_scores
        sequence.pages = self._cache.match(sequence.chain.hashes, sequence.tokens[:-1]) if known else ()
        sequence.num_registered = len(sequence.pages)
        sequence.num_computed = len(sequence.pages) * self._page_size
        sequence.num_cached = sequence.num_computed
        sequence.num_found = 0

    def foresee(self, sequence: Sequence, others: Iterable[Sequence]) -> None:
        """What it would find now, and what `others` that are being read will leave for it."""
        if not sequence.wants_scores:
            usable = sequence.page_names[: (sequence.num_tokens - 1) // self._page_size]
            num_pages = max(self._cache.look_for(usable), shared_pages(usable, [each.page_names for each in others]))
            sequence.num_found = num_pages * self._page_size

    def grow(self, sequence: Sequence, end: int, copies: list[PageCopy]) -> bool:
        """Make slots up to `end` writable. False, and nothing changed, when no page is left."""
        copies_page = self.needs_copy(sequence)
        missing = max(0, self._pages_for(end) - len(sequence.pages))
        if not (missing or copies_page):  # nearly every decoding step
            return True
        fresh = self._cache.allocate(missing + int(copies_page))
        if fresh is None:
            return False
        pages, new = [*sequence.pages], [*fresh]
        if copies_page:
            index = sequence.num_launched // self._page_size
            shared, own = pages[index], new.pop()
            copies.append(PageCopy(source=shared.page, destination=own.page))
            pages[index] = own
            # At once, so that the last sibling writes where it is: that one's own reference outlasts this step.
            self._cache.release([shared])
        sequence.pages = (*pages, *new)
        return True

    def needs_copy(self, sequence: Sequence) -> bool:
        """Whether the next slot lies in a partly filled page that a sibling reads too."""
        index, offset = divmod(sequence.num_launched, self._page_size)
        return bool(offset) and self._cache.readers(sequence.pages[index]) > 1

    def share(self, pages: tuple[PageRef, ...]) -> tuple[PageRef, ...]:
        """The same pages for one more sequence."""
        self._cache.retain(pages)
        return pages

    def lend_full_pages(self, sequence: Sequence) -> None:
        """Let others find the pages that are full by now."""
        size = self._page_size
        for index in range(sequence.num_registered, sequence.num_computed // size):
            tokens = sequence.tokens[index * size : (index + 1) * size]
            parent = sequence.chain.hashes[index - 1] if index else None
            self._cache.register(sequence.pages[index], sequence.chain.hashes[index], tokens, parent=parent)
            sequence.num_registered = index + 1

    def disown(self, sequence: Sequence) -> None:
        """A row that could not be computed: what it computed before may be the cause, and is lent to nobody."""
        own = sequence.num_cached // self._page_size
        self._cache.forget(sequence.pages[own:])

    def preempt(self, sequence: Sequence) -> None:
        """Give every page back. What was full stays in the cache until somebody needs the room."""
        assert not sequence.num_flying, f"{sequence.id} is preempted under a step in flight"
        self.give_back(sequence.pages)
        sequence.pages = ()
        sequence.num_computed = sequence.num_registered = 0
        sequence.num_preemptions += 1
        if sequence.wants_scores:
            sequence.prompt_scores.clear()  # it is computed from its beginning again

    # All sequences

    def empty_slots(self, sequences: list[Sequence]) -> int:
        """Slots that hold no token in the pages of all sequences; a page that several share counts once."""
        empty: dict[PageId, int] = {}
        for sequence in sequences:
            first, filled = divmod(sequence.num_computed, self._page_size)
            for ref in sequence.pages[first:]:
                empty[ref.page] = self._page_size - filled
                filled = 0
        return sum(empty.values())
