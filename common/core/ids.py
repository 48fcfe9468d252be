"""Identifiers: a page id cannot be passed where a worker id is meant."""

from dataclasses import dataclass
from typing import NamedTuple, NewType

RequestId = NewType("RequestId", str)
TenantId = NewType("TenantId", str)
WorkerId = NewType("WorkerId", str)
RouterId = NewType("RouterId", str)
ReservationId = NewType("ReservationId", str)

Epoch = NewType("Epoch", int)
"""Incarnation of a process: a random 64-bit number, minted once at start. A counter would repeat after data loss."""

TokenId = NewType("TokenId", int)
PageId = NewType("PageId", int)
Generation = NewType("Generation", int)

PrefixHash = NewType("PrefixHash", bytes)
"""Chained keyed hash of a run of full pages, 32 bytes. See common/kv/hashing."""


class PageRef(NamedTuple):
    """One ownership of one page. A page that was freed since has another generation, and the ref is refused."""

    page: PageId
    generation: Generation


class SequenceId(NamedTuple):
    """One choice of one request.

    A tuple, as a page's reference is: a step looks every running sequence up a dozen times, and a dataclass hashes and
    compares in Python.
    """

    request: RequestId
    choice: int = 0

    def __str__(self) -> str:
        return f"{self.request}/{self.choice}"


@dataclass(frozen=True, slots=True)
class WorkerRef:
    """One incarnation of one worker. The address alone proves nothing: a restarted process may reuse it."""

    worker: WorkerId
    epoch: Epoch
    address: str


@dataclass(frozen=True, slots=True)
class RouterRef:
    """One incarnation of one router."""

    router: RouterId
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class TransferId:
    """One attempt to fill one reservation. Frames of an older attempt are refused."""

    reservation: ReservationId
    attempt: int
