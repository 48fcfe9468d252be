"""Whose cache holds the beginning of a context, as far as the directory's replica knows. A hint, never a promise."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from common.core.ids import PrefixHash, TokenId, WorkerId
from common.kv.hashing import prefix_hashes
from services.router.fleet import Fleet
from services.router.mirror import Mirror

MAX_REMEMBERED_PAGES = 65_536
"""Chosen: a million tokens of requests that are here. 6 MB of hashes; tokens that nobody else keeps alive any more
would be seven times as much, so whoever asked for them says when that is over."""


class PrefixHints:
    """Looks up page hashes of a context in the mirror. Writer of what it remembers: the event loop's thread.

    A prompt is hashed once, although it is asked about when it comes, when it is placed and when it was: 100,000 tokens
    take 5 ms. Remembered by the very tuple, which is kept alive until it is forgotten.
    """

    def __init__(self, *, mirror: Mirror, fleet: Fleet, page_size: int) -> None:
        self._mirror = mirror
        self._fleet = fleet
        self.page_size = page_size
        self._remembered: OrderedDict[int, _Hashed] = OrderedDict()
        self._num_pages = 0

    def __len__(self) -> int:
        """Contexts that are remembered."""
        return len(self._remembered)

    def hits(self, context: Sequence[TokenId], scope: bytes) -> Mapping[WorkerId, int]:
        """Leading tokens that each worker holds, or will soon. Empty while hints are stale: load alone counts then."""
        hashes = self._hashes(context, scope)
        if not hashes or self._mirror.is_stale:
            return {}
        return {worker: pages * self.page_size for worker, pages in self._mirror.held_runs(hashes).items()}

    def awaited(self, context: Sequence[TokenId], scope: bytes) -> frozenset[WorkerId]:
        """Workers thought to hold more of it than they told: a prompt of this beginning was just sent there."""
        hashes = self._hashes(context, scope)
        if not hashes or self._mirror.is_stale:
            return frozenset()
        thought, told = self._mirror.held_runs(hashes), self._mirror.held_runs(hashes, is_told=True)
        return frozenset(worker for worker, pages in thought.items() if pages > told.get(worker, 0))

    def note_routed(self, context: Sequence[TokenId], scope: bytes, reader: WorkerId) -> None:
        """This worker is to read the context: siblings that follow it find it there before it tells. Who is to receive
        it has nothing until the pages have landed, and tells so then: a sibling there would be read a second time."""
        if hashes := self._hashes(context, scope):
            self._mirror.predict(reader, hashes)

    def forget(self, context: Sequence[TokenId]) -> None:
        """Nobody will ask about this very tuple again. Idempotent."""
        self._forget(id(context))

    def _hashes(self, context: Sequence[TokenId], scope: bytes) -> Sequence[PrefixHash]:
        fingerprint = self._fleet.fingerprint()
        if fingerprint is None:
            return ()
        known = self._remembered.get(id(context))
        if known is not None and known[:3] == (context, scope, fingerprint):
            self._remembered.move_to_end(id(context))
            return known[3]
        hashes = prefix_hashes(context, self.page_size, scope, fingerprint)
        self._forget(id(context))
        if not hashes:  # below a page: nothing to be spared, and no weight that would bound how many are kept
            return hashes
        self._remembered[id(context)] = (context, scope, fingerprint, hashes)
        self._num_pages += len(hashes)
        while self._num_pages > MAX_REMEMBERED_PAGES:
            self._forget(next(iter(self._remembered)))
        return hashes

    def _forget(self, name: int) -> None:
        if (known := self._remembered.pop(name, None)) is not None:
            self._num_pages -= len(known[3])


_Hashed = tuple[Sequence[TokenId], bytes, bytes, Sequence[PrefixHash]]
