"""What travels from the prefill leg to the decode leg through a gateway that relays it unread: a sealed ticket.

The seal is a keyed digest under the cluster secret. Decode dials the address in a ticket, so it takes none but what a
worker of this cluster wrote, whatever a client managed to have relayed.
"""

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from common.core.errors import FieldViolation, InvalidRequest
from common.core.ids import Epoch, RequestId, WorkerId, WorkerRef
from common.core.ticket import Ticket

FIELD = "kv_transfer_params_json"
MAX_CHARS = 4096
SEAL_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """The right to fetch, and what the prefill worker found of the prompt in its cache."""

    ticket: Ticket
    cached_tokens: int


class Sealer:
    """Writes and reads hand-overs. One per worker, all with the same secret."""

    def __init__(self, secret: bytes) -> None:
        self._key = hashlib.blake2b(secret, digest_size=32, person=b"baton.vllm.1").digest()

    def write(self, handover: HandOver) -> str:
        ticket = handover.ticket
        facts: dict[str, str | int] = {
            "worker": ticket.holder.worker,
            "epoch": str(ticket.holder.epoch),
            "address": ticket.holder.address,
            "request": ticket.request,
            "num_pages": ticket.num_pages,
            "lease_ms": round(ticket.lease_s * 1000),
            "nonce": ticket.nonce.hex(),
            "signature": ticket.signature.hex(),
            "cached_tokens": handover.cached_tokens,
        }
        return json.dumps({**facts, "seal": self._seal(facts).hex()})

    def read(self, text: str) -> HandOver:
        """Raises InvalidRequest for anything that a worker of this cluster did not write, without saying why."""
        try:
            facts: dict[str, Any] = json.loads(text[: MAX_CHARS + 1])
            seal = bytes.fromhex(facts.pop("seal"))
            if not hmac.compare_digest(seal, self._seal(facts)):
                raise _foreign()
            holder = WorkerRef(WorkerId(facts["worker"]), Epoch(int(facts["epoch"])), facts["address"])
            ticket = Ticket(
                holder=holder,
                request=RequestId(facts["request"]),
                num_pages=facts["num_pages"],
                lease_s=facts["lease_ms"] / 1000,
                nonce=bytes.fromhex(facts["nonce"]),
                signature=bytes.fromhex(facts["signature"]),
            )
            return HandOver(ticket=ticket, cached_tokens=facts["cached_tokens"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _foreign() from error

    def _seal(self, facts: dict[str, Any]) -> bytes:
        spelled = json.dumps(facts, sort_keys=True).encode()
        return hashlib.blake2b(spelled, key=self._key, digest_size=SEAL_BYTES).digest()


def _foreign() -> InvalidRequest:
    description = "not written by a worker of this cluster"
    return InvalidRequest(
        message=f"{FIELD} is {description}", violations=(FieldViolation(field=FIELD, description=description),)
    )
