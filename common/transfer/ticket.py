"""Fetch tickets: leased, signed, good for one transfer. The holder of retained pages makes and redeems its own."""

import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass, replace

from common.core.clock import Clock
from common.core.entropy import Entropy
from common.core.errors import Fenced, Reason, Refused
from common.core.ids import RequestId, TransferId, WorkerRef
from common.core.ticket import Ticket

SECRET_BITS = 256
NONCE_BYTES = 16
SIGNATURE_BYTES = 32
MAX_TICKETS = 4096
"""Chosen: far above the requests whose pages one worker can retain."""


@dataclass(slots=True)
class _Lease:
    """What the holder remembers of one ticket."""

    ticket: Ticket
    ends_at: float
    redeemed_for: TransferId | None = None


class TicketOffice:
    """Writer: the event loop. The secret never leaves the process; a restarted holder knows none of its old tickets."""

    def __init__(self, me: WorkerRef, *, clock: Clock, entropy: Entropy) -> None:
        self._me = me
        self._clock = clock
        self._entropy = entropy
        self._secret = entropy.bits(SECRET_BITS).to_bytes(SECRET_BITS // 8, "little")
        self._leases: OrderedDict[bytes, _Lease] = OrderedDict()

    def __len__(self) -> int:
        return len(self._leases)

    def mint(self, request: RequestId, *, num_pages: int, lease_s: float) -> Ticket:
        """Raises Refused when too many are out."""
        if len(self._leases) >= MAX_TICKETS:
            raise Refused(message=f"{MAX_TICKETS} tickets are out", reason=Reason.LOAD_SHED)
        nonce = self._entropy.bits(NONCE_BYTES * 8).to_bytes(NONCE_BYTES, "little")
        # Whole milliseconds: what travels is what is signed.
        lease_s = round(lease_s * 1000) / 1000
        bare = Ticket(holder=self._me, request=request, num_pages=num_pages, lease_s=lease_s, nonce=nonce)
        ticket = replace(bare, signature=self._sign(bare))
        self._leases[nonce] = _Lease(ticket=ticket, ends_at=self._clock.monotonic() + lease_s)
        return ticket

    def redeem(self, ticket: Ticket, transfer: TransferId) -> None:
        """Spends the ticket on one transfer; asking again for the same transfer is the same request, heard twice.

        Raises Fenced (TICKET_INVALID) for a forged, foreign, spent or expired ticket, without saying which.
        """
        lease = self._leases.get(ticket.nonce)
        is_ours = hmac.compare_digest(self._sign(ticket), ticket.signature) and ticket.holder == self._me
        if not is_ours or lease is None or self._clock.monotonic() > lease.ends_at:
            raise _invalid()
        if lease.redeemed_for not in (None, transfer):
            raise _invalid()
        lease.redeemed_for = transfer

    def is_redeemed(self, ticket: Ticket) -> bool:
        lease = self._leases.get(ticket.nonce)
        return lease is not None and lease.redeemed_for is not None

    def expire(self) -> tuple[RequestId, ...]:
        """Forgets tickets whose lease has ended; the requests whose pages nobody fetched."""
        now = self._clock.monotonic()
        over = [lease for lease in self._leases.values() if now > lease.ends_at]
        for lease in over:
            del self._leases[lease.ticket.nonce]
        return tuple(lease.ticket.request for lease in over if lease.redeemed_for is None)

    def withdraw(self, request: RequestId) -> None:
        """The pages are gone before the lease ended: no ticket for them is valid any more. Idempotent."""
        for nonce in [nonce for nonce, lease in self._leases.items() if lease.ticket.request == request]:
            del self._leases[nonce]

    def _sign(self, ticket: Ticket) -> bytes:
        """Keyed BLAKE2b over every other field, each with its length, so that no two tickets spell the same bytes."""
        facts = (
            ticket.holder.worker.encode(),
            ticket.holder.epoch.to_bytes(8, "little"),
            ticket.holder.address.encode(),
            ticket.request.encode(),
            ticket.num_pages.to_bytes(8, "little"),
            round(ticket.lease_s * 1000).to_bytes(8, "little"),
            ticket.nonce,
        )
        signer = hashlib.blake2b(key=self._secret, digest_size=SIGNATURE_BYTES, person=b"baton.ticket.1")
        for fact in facts:
            signer.update(len(fact).to_bytes(8, "little"))
            signer.update(fact)
        return signer.digest()


def _invalid() -> Fenced:
    return Fenced(message="the ticket is not valid here, or not any more", reason=Reason.TICKET_INVALID)
