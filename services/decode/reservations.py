"""Promises: pages set aside on this worker for a prompt that another worker computes.

    PROMISED -> (runs land, in any order) -> LANDED + finale -> ADOPTED
        any of them -> RELEASED (cancelled, expired, router lost)

A failed transfer leaves the promise standing: the router renews it with a higher attempt, and frames of the older
attempt are refused from then on. Bytes land under the permit of an attempt, which ends with it (worker/permit).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from common.core.errors import Fenced, NotFound, Reason
from common.core.ids import PageRef, ReservationId
from common.core.logprobs import TokenLogprobs
from common.core.request import Work
from common.core.step import Draw
from common.engine.rule import TokenRule
from common.transfer.claims import LayerClaims
from common.worker.permit import Permit


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """The answer to Reserve: numbers for the router, and for the arrivals leave to write what is missing."""

    reservation: ReservationId
    total_pages: int
    held_pages: int
    permit: Permit

    @property
    def promised_pages(self) -> int:
        return self.total_pages - self.held_pages


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How every choice begins, as prefill told it: the first token by choice, and the prompt's log probabilities."""

    first_tokens: Mapping[int, Draw]
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(slots=True)
class Reservation:
    """Writer: the decode core. `pages` are in prompt order; the first `held` were in the cache already."""

    id: ReservationId
    work: Work
    pages: tuple[PageRef, ...]
    held: int
    permit: Permit
    """Of the current attempt."""
    made_at: float
    touched_at: float
    landed: LayerClaims
    opening: Opening | None = None
    rule: TokenRule | None = None
    """Of the work's constraint, before the first token that prefill draws."""

    @property
    def attempt(self) -> int:
        return self.work.attempt

    @property
    def promise(self) -> Promise:
        return Promise(reservation=self.id, total_pages=len(self.pages), held_pages=self.held, permit=self.permit)

    def is_complete(self, num_layers: int) -> bool:
        """Every layer of every promised page has landed and prefill's first tokens are known."""
        return self.opening is not None and self.landed.num == (len(self.pages) - self.held) * num_layers


class Reservations:
    """The table of standing promises. Writer: the decode core."""

    def __init__(self) -> None:
        self._by_id: dict[ReservationId, Reservation] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Reservation]:
        return iter(tuple(self._by_id.values()))

    def add(self, reservation: Reservation) -> None:
        assert reservation.id not in self._by_id, f"{reservation.id} is promised twice"
        self._by_id[reservation.id] = reservation

    def find(self, reservation: ReservationId, attempt: int) -> Reservation:
        """The promise, for a frame of `attempt`. Raises NotFound or Fenced; the caller drops the frame."""
        found = self._by_id.get(reservation)
        if found is None:
            raise NotFound(
                message=f"{reservation} is not promised here (any more)", reason=Reason.RESERVATION_NOT_FOUND
            )
        if attempt != found.attempt:
            raise Fenced(
                message=f"{reservation} is at attempt {found.attempt}, the frame is of attempt {attempt}",
                facts={"reservation": reservation, "attempt": str(attempt), "current": str(found.attempt)},
            )
        return found

    def get(self, reservation: ReservationId) -> Reservation | None:
        return self._by_id.get(reservation)

    def remove(self, reservation: ReservationId) -> Reservation:
        return self._by_id.pop(reservation)
