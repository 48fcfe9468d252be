"""Everything that holders may do to a page cache, in any order, beside a model that knows who holds what.

The model keeps the content of every page as a tag: the path of pages that leads to it. Whoever writes a page writes its
tag, whoever reads a page must find the tag expected, so that a page given away too early shows as foreign content.
Invariants after every step: states sum (I1), counts equal the holders listed (I2), every reader sees its own content.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common.core.errors import Fenced
from common.core.ids import PageRef, PrefixHash, TokenId
from common.kv.cache import PageCache
from common.kv.hashing import PrefixChain
from common.kv.pool import PagePool
from common.kv.prefix import PrefixIndex
from common.kv.sim_layout import sim_layout

PAGE_SIZE = 2
NUM_PAGES = 7
MAX_LATE = 16
LAYOUT = sim_layout(page_size=PAGE_SIZE)

Path = tuple[int, ...]
"""One symbol per page: short alphabets make contexts share prefixes."""

paths = st.lists(st.integers(0, 1), min_size=1, max_size=4).map(tuple)
picks = st.integers(0, 255)


@dataclass(eq=False)
class Context:
    """A running sequence: it reads all its pages."""

    path: Path
    refs: list[PageRef]


@dataclass(eq=False)
class Reservation:
    """Promised pages behind held ones."""

    path: Path
    held: list[PageRef]
    promised: list[PageRef]
    landed: set[PageRef] = field(default_factory=set)

    @property
    def refs(self) -> list[PageRef]:
        return self.held + self.promised


@dataclass(eq=False)
class Writer:
    """A transfer that may land in its pages, whatever happened to the reservation."""

    reservation: Reservation
    refs: list[PageRef]


class PageMachine(RuleBasedStateMachine):
    """`make_pool` and `make_cache` are replaced by mutants."""

    make_pool: Callable[[int], PagePool] = PagePool
    make_cache: Callable[..., PageCache] = PageCache

    def __init__(self) -> None:
        super().__init__()
        self.pool = type(self).make_pool(NUM_PAGES)
        self.cache = type(self).make_cache(self.pool, PrefixIndex(), page_size=PAGE_SIZE)
        self.contexts: list[Context] = []
        self.reservations: list[Reservation] = []
        self.writers: list[Writer] = []
        self.late: list[tuple[PageRef, Path]] = []
        self.content: dict[int, Path] = {}
        self.directory: set[PrefixHash] = set()

    # Contexts

    @rule(path=paths)
    def compute(self, path: Path) -> None:
        """A prompt is read here: pages found, the others computed and registered."""
        held = self.match(path)
        fresh = self.cache.allocate(len(path) - len(held))
        if fresh is None:
            self.cache.release(held)
            return
        context = Context(path, [*held, *fresh])
        for index in range(len(held), len(path)):
            self.content[context.refs[index].page] = path[: index + 1]
        self.register(context, first=len(held))
        self.contexts.append(context)

    @precondition(lambda self: self.contexts)
    @rule(pick=picks)
    def fork(self, pick: int) -> None:
        """A second choice of the same prompt."""
        parent = self.contexts[pick % len(self.contexts)]
        self.cache.retain(parent.refs)
        self.contexts.append(Context(parent.path, list(parent.refs)))

    @precondition(lambda self: self.contexts)
    @rule(pick=picks)
    def finish(self, pick: int) -> None:
        context = self.contexts.pop(pick % len(self.contexts))
        self.cache.release(context.refs)

    # Reservations and transfers

    @rule(path=paths, is_offered=st.booleans())
    def reserve(self, path: Path, is_offered: bool) -> None:
        """Pages found, the others promised. Often the first offer follows at once."""
        held = self.match(path)
        promised = self.cache.promise(len(path) - len(held))
        if not promised:
            self.cache.release(held)
            return
        self.reservations.append(Reservation(path, list(held), list(promised)))
        if is_offered:
            self.begin_write(-1)

    @precondition(lambda self: self.reservations)
    @rule(pick=picks)
    def begin_write(self, pick: int) -> None:
        """An offer is accepted. A second attempt may begin while the first is not yet over."""
        reservation = self.reservations[pick % len(self.reservations)]
        self.cache.begin_write(reservation.promised)
        self.writers.append(Writer(reservation, list(reservation.promised)))

    @precondition(lambda self: self.writers)
    @rule(pick=picks, count=st.integers(1, 4))
    def land(self, pick: int, count: int) -> None:
        """Data arrives under an open transfer: its pages cannot have been given away."""
        writer = self.writers[pick % len(self.writers)]
        for ref in writer.refs[:count]:
            self.cache.check(ref)
            self.content[ref.page] = self.tag(writer.reservation, ref)
            writer.reservation.landed.add(ref)

    @precondition(lambda self: self.writers)
    @rule(pick=picks)
    def end_write(self, pick: int) -> None:
        writer = self.writers.pop(pick % len(self.writers))
        self.cache.end_write(writer.refs)
        self.late += [(ref, self.tag(writer.reservation, ref)) for ref in writer.refs]
        del self.late[:-MAX_LATE]

    @precondition(lambda self: self.late)
    @rule()
    def land_late(self) -> None:
        """Data arrives after its transfer ended: fenced, or still the page's own life and so its own content."""
        for ref, tag in self.late:
            try:
                self.cache.check(ref)
            except Fenced:
                continue
            self.content[ref.page] = tag
        self.late.clear()

    @precondition(lambda self: any(self.is_whole(reservation) for reservation in self.reservations))
    @rule(pick=picks)
    def fulfil(self, pick: int) -> None:
        """Everything landed and nobody writes: the reservation becomes a running context."""
        whole = [reservation for reservation in self.reservations if self.is_whole(reservation)]
        reservation = whole[pick % len(whole)]
        self.reservations.remove(reservation)
        self.cache.fulfil(reservation.promised)
        context = Context(reservation.path, reservation.refs)
        self.register(context, first=len(reservation.held))
        self.contexts.append(context)

    @precondition(lambda self: self.reservations)
    @rule(pick=picks)
    def abort(self, pick: int) -> None:
        """The request is gone; its transfers may still land."""
        reservation = self.reservations.pop(pick % len(self.reservations))
        self.cache.release(reservation.refs)

    # The cache as a whole

    @rule(count=st.integers(1, NUM_PAGES))
    def evict(self, count: int) -> None:
        """Somebody needs room for a moment."""
        refs = self.cache.allocate(count)
        if refs is not None:
            for ref in refs:
                self.content[ref.page] = ()
            self.cache.release(refs)

    @rule()
    def reset(self) -> None:
        self.cache.reset()

    @rule()
    def drain(self) -> None:
        """The directory learns the changes and then knows exactly what can be found here."""
        changes = self.cache.drain_changes()
        assert self.directory >= set(changes.withdrawn), "withdrawn, but never published"
        self.directory -= set(changes.withdrawn)
        for run in changes.published:
            assert not self.directory & set(run), "published twice"
            self.directory |= set(run)
        for prefix in self.directory:
            assert prefix in self.cache._index, "the directory names a prefix that is gone"
        assert len(self.directory) == len(self.cache._index), "the directory misses a prefix"

    # What must hold

    @invariant()
    def states_sum_to_the_total(self) -> None:
        """I1."""
        self.cache.audit()
        counts = self.cache.counts()
        assert counts.total == NUM_PAGES
        assert self.cache.available() == counts.free + counts.cached

    @invariant()
    def counts_equal_the_holders(self) -> None:
        """I2."""
        readers = Counter(ref for refs in self.held() for ref in refs)
        writers = Counter(ref for writer in self.writers for ref in writer.refs)
        for ref in readers | writers:
            assert self.cache.is_current(ref), f"{ref} was given away while it is held"
            assert (self.pool.readers(ref), self.pool.writers(ref)) == (readers[ref], writers[ref]), f"{ref}"
        counts = self.cache.counts()
        held = len({ref.page for ref in readers | writers})
        assert counts.promised + counts.referenced == held, f"{counts}, but {held} pages are held"

    @invariant()
    def every_reader_sees_its_own_content(self) -> None:
        for context in self.contexts:
            for index, ref in enumerate(context.refs):
                assert self.content[ref.page] == context.path[: index + 1], f"{ref} holds foreign content"

    def teardown(self) -> None:
        """Everybody leaves: every page is free or cached, and free after a reset."""
        for writer in self.writers:
            self.cache.end_write(writer.refs)
        for refs in self.held():
            self.cache.release(refs)
        counts = self.cache.counts()
        assert counts.free + counts.cached == NUM_PAGES, f"{counts} after everybody left"
        self.cache.reset()
        self.cache.audit()
        assert self.cache.counts().free == NUM_PAGES

    # Inside

    def held(self) -> list[list[PageRef]]:
        """What every reader holds."""
        return [context.refs for context in self.contexts] + [reservation.refs for reservation in self.reservations]

    def match(self, path: Path) -> tuple[PageRef, ...]:
        tokens = [TokenId(symbol) for symbol in path for _ in range(PAGE_SIZE)]
        found = self.cache.match(self.chain(path).hashes, tokens)
        for index, ref in enumerate(found):
            assert self.content[ref.page] == path[: index + 1], f"{ref} was lent with foreign content"
        return found

    def register(self, context: Context, first: int) -> None:
        hashes = self.chain(context.path).hashes
        for index in range(first, len(context.path)):
            tokens = [TokenId(context.path[index])] * PAGE_SIZE
            parent = hashes[index - 1] if index else None
            self.cache.register(context.refs[index], hashes[index], tokens, parent=parent)

    def chain(self, path: Path) -> PrefixChain:
        chain = PrefixChain(scope=bytes(32), layout=LAYOUT)
        chain.extend([TokenId(symbol) for symbol in path for _ in range(PAGE_SIZE)])
        return chain

    def tag(self, reservation: Reservation, ref: PageRef) -> Path:
        return reservation.path[: reservation.refs.index(ref) + 1]

    def is_whole(self, reservation: Reservation) -> bool:
        is_written = any(writer.reservation is reservation for writer in self.writers)
        return not is_written and len(reservation.landed) == len(reservation.promised)
