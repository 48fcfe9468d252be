"""What the router asks of the directory's replica in its process: who is there, and who holds what."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from common.core.ids import PrefixHash, WorkerId
from common.core.worker import Member


class Mirror(Protocol):
    """The directory's replica in this process."""

    @property
    def is_stale(self) -> bool:
        """Redis was not heard from lately: members and hits are the last known ones."""
        ...

    def members(self) -> Sequence[Member]: ...

    @property
    def version(self) -> int:
        """Grows with every change."""
        ...

    def held_runs(self, hashes: Sequence[PrefixHash], *, is_told: bool = False) -> Mapping[WorkerId, int]:
        """Leading pages of the chain that each worker holds, or is thought to hold soon unless only what `is_told`
        counts."""
        ...

    def predict(self, worker: WorkerId, hashes: Sequence[PrefixHash]) -> None:
        """A prompt with these pages was just sent there."""
        ...

    def owned_pages(self, worker: WorkerId) -> int:
        """Pages that the replica knows of one worker."""
        ...

    async def wait_change(self, seen: int, deadline: float) -> bool:
        """Until `version` differs from `seen`; False when the deadline (monotonic) passed first."""
        ...
