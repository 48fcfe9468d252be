"""The right to have retained pages pushed: made and signed by their holder, carried by whoever places the work."""

from dataclasses import dataclass

from common.core.ids import RequestId, WorkerRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The right to have retained pages pushed once, signed by their holder. `lease_s` counts from its making."""

    holder: WorkerRef
    request: RequestId
    num_pages: int
    lease_s: float
    nonce: bytes
    signature: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixTicket:
    """Cached pages that a prompt begins with, kept by another worker: the prompt waits for them at most so long."""

    ticket: Ticket
    patience_s: float
