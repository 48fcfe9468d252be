"""What decode dials was written by a worker of this cluster: a hand-over is sealed, and nothing else is read."""

import json

import pytest

from common.core.errors import InvalidRequest
from common.core.ids import Epoch, RequestId, WorkerId, WorkerRef
from common.core.ticket import Ticket
from common.worker.vllm.handover import HandOver, Sealer

SEALER = Sealer(b"s" * 32)
TICKET = Ticket(
    holder=WorkerRef(WorkerId("p"), Epoch((1 << 63) + 1), "127.0.0.1:1"),
    request=RequestId("r~1"),
    num_pages=7,
    lease_s=2.5,
    nonce=bytes(16),
    signature=bytes(range(32)),
)
HANDOVER = HandOver(ticket=TICKET, cached_tokens=32)


def test_a_handover_survives_a_gateway_that_reads_and_writes_its_json() -> None:
    relayed = json.dumps(json.loads(SEALER.write(HANDOVER)), indent=1)
    assert SEALER.read(relayed) == HANDOVER


@pytest.mark.parametrize(
    "change",
    [
        {"address": "169.254.0.1:80"},
        {"epoch": "5"},
        {"cached_tokens": 33},
        {"extra": 1},
        {"seal": "00" * 32},
        {"seal": "no hex"},
        {"seal": 5},
    ],
)
def test_a_changed_handover_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        SEALER.read(json.dumps({**json.loads(SEALER.write(HANDOVER)), **change}))


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "5", "null", '"x"', "{" * 5000, "[" * 4000, '{"do_remote_decode": true}']
)
def test_what_is_no_handover_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        SEALER.read(text)


def test_another_clusters_handover_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        Sealer(b"t" * 32).read(SEALER.write(HANDOVER))
