"""Whose cache holds the beginning of a context, as far as the directory's replica knows. A hint, never a promise."""

from collections.abc import Mapping, Sequence

from common.core.ids import TokenId, WorkerId
from common.kv.hashing import prefix_hashes
from services.router.fleet import Fleet, Mirror


class PrefixHints:
    """Looks up page hashes of a context in the mirror. Hashing 2,000 tokens takes well under a millisecond."""

    def __init__(self, *, mirror: Mirror, fleet: Fleet, page_size: int) -> None:
        self._mirror = mirror
        self._fleet = fleet
        self.page_size = page_size

    def hits(self, context: Sequence[TokenId], scope: bytes) -> Mapping[WorkerId, int]:
        """Leading tokens that each worker holds. Empty while the hints are stale: routing by load alone then."""
        fingerprint = self._fleet.fingerprint()
        if fingerprint is None or self._mirror.is_stale:
            return {}
        hashes = prefix_hashes(context, self.page_size, scope, fingerprint)
        return {worker: pages * self.page_size for worker, pages in self._mirror.held_runs(hashes).items()}
