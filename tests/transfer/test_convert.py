"""kv.proto and back: every value survives, and what does not describe a possible thing is refused by its field."""

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from common.core.errors import InvalidRequest, Mismatch, Reason
from common.core.ids import Epoch, RequestId, ReservationId, TokenId, TransferId, WorkerId, WorkerRef
from common.core.ticket import Ticket
from common.rpc.convert import kv, same_host
from common.transfer.messages import (
    DeviceMemory,
    Fetch,
    Finale,
    FirstToken,
    GpuFacts,
    HostFacts,
    Meet,
    Met,
    Offer,
    Outcome,
    OutcomeState,
    PageRun,
    Pair,
    ProbeReport,
    SameHostInvitation,
    TransferRef,
)
from protos.baton.v1 import kv_pb2
from tests.transfer.rig import LAYOUT

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
epochs = st.integers(1, 2**64 - 1).map(Epoch)
small = st.integers(0, 2**32 - 1)
workers = st.builds(WorkerRef, worker=names.map(WorkerId), epoch=epochs, address=names)
pairs = st.builds(
    Pair,
    sender=workers,
    receiver=workers,
    nonce=st.integers(1, 2**64 - 1),
    channel=st.sampled_from(["gloo", "loopback"]),
)
transfers = st.builds(
    TransferRef,
    transfer=st.builds(TransferId, reservation=names.map(ReservationId), attempt=st.integers(1, 2**32 - 1)),
    request=names.map(RequestId),
    sender_epoch=epochs,
    receiver_epoch=epochs,
)
inodes = st.integers(0, 2**64 - 1)
gpus = st.builds(GpuFacts, uuid=names, peers=st.frozensets(names, max_size=4), nccl_version=names)
hosts = st.builds(
    HostFacts,
    boot_id=names,
    network_namespace=inodes,
    user=small,
    ipc_namespace=inodes,
    pid_namespace=inodes,
    gpu=st.none() | gpus,
)
invitations = st.builds(
    SameHostInvitation,
    socket_name=st.binary(min_size=1, max_size=100),
    token=st.binary(min_size=32, max_size=32),
    num_slots=st.integers(1, 128),
    slot_bytes=st.integers(1, 2**40),
    device=st.none()
    | st.builds(DeviceMemory, device_uuid=st.binary(max_size=16), ipc_handle=st.binary(min_size=64, max_size=64)),
)
finales = st.builds(
    Finale,
    first_tokens=st.lists(st.builds(FirstToken, choice=small, token=small.map(TokenId)), max_size=4).map(tuple),
    total_pages=small,
    cached_tokens=small,
)
offers = st.builds(
    Offer,
    pair=pairs,
    transfer=st.none() | transfers,
    frame=st.integers(0, 2**64 - 1),
    run=st.builds(PageRun, first_page=small, num_pages=small),
    num_bytes=st.integers(0, 2**64 - 1),
    digests=st.binary(max_size=64),
    finale=st.none() | finales,
)
tickets = st.builds(
    Ticket,
    holder=workers,
    request=names.map(RequestId),
    num_pages=small,
    lease_s=st.integers(0, 2**31).map(lambda ms: ms / 1000),
    nonce=st.binary(max_size=16),
    signature=st.binary(max_size=32),
)
outcomes = st.builds(
    Outcome,
    state=st.sampled_from(OutcomeState),
    reason=st.none() | st.sampled_from(Reason),
    message=st.text(st.characters(codec="utf-8"), max_size=100),
    landed_pages=small,
)


@given(offer=offers)
def test_an_offer_survives(offer: Offer) -> None:
    raw = kv.offer_to_wire(offer).SerializeToString()
    assert kv.offer_from_wire(kv_pb2.OfferRequest.FromString(raw)) == offer


@given(outcome=outcomes)
def test_an_outcome_survives(outcome: Outcome) -> None:
    assert kv.outcome_from_wire(kv.outcome_to_wire(outcome)) == outcome


@given(
    fetch=st.builds(
        Fetch,
        ticket=tickets,
        transfer=transfers,
        receiver=workers,
        held_pages=small,
        context_digest=st.binary(max_size=16),
    )
)
def test_a_fetch_with_its_ticket_survives(fetch: Fetch) -> None:
    assert kv.fetch_from_wire(kv.fetch_to_wire(fetch)) == fetch


def test_a_meeting_and_a_probe_survive() -> None:
    meet, met = Meet(layout=LAYOUT, scheme=b"scheme"), Met(digest_key=bytes(32), max_run_bytes=4096)
    assert kv.meet_from_wire(kv.meet_to_wire(meet)) == meet
    assert kv.met_from_wire(kv.met_to_wire(met)) == met
    report = ProbeReport(
        control_s=0.001, setup_s=0.02, data_s=0.5, num_bytes=1 << 20, channel="gloo", passed_over="another machine"
    )
    told = kv.probe_to_wire(report)
    assert (told.control_seconds, told.setup_seconds, told.data_seconds) == (0.001, 0.02, 0.5)
    assert (told.num_bytes, told.channel, told.passed_over) == (1 << 20, "gloo", "another machine")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"attempt": 0}, "attempt"),
        ({"reservation_id": ""}, "reservation_id"),
        ({"reservation_id": "r" * 257}, "reservation_id"),
        ({"request_id": "r" * 257}, "request_id"),
    ],
)
def test_a_transfer_that_cannot_be_is_refused_by_field(change: dict[str, object], field: str) -> None:
    message = kv_pb2.TransferRef(reservation_id="res", request_id="req", attempt=1, receiver_epoch=1, sender_epoch=2)
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(InvalidRequest, match=field):
        kv.transfer_from_wire(message)


def test_a_layout_whose_bytes_are_not_its_shape_is_refused() -> None:
    message = kv.layout_to_wire(LAYOUT, b"")
    message.page_bytes += 1
    with pytest.raises(InvalidRequest, match="page_bytes"):
        kv.layout_from_wire(message)
    message.num_layers = 0
    with pytest.raises(Mismatch):
        kv.layout_from_wire(message)


def test_a_pair_without_its_ends_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        kv.pair_from_wire(kv_pb2.Pair(nonce=1))
    with pytest.raises(InvalidRequest, match="nonce"):
        kv.pair_from_wire(kv_pb2.Pair())


def test_a_digest_key_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="31 bytes"):
        kv.met_from_wire(kv_pb2.Met(digest_key=bytes(31)))


def test_a_reason_of_a_newer_peer_is_internal() -> None:
    assert kv.reason_from_wire("SOMETHING_NEW") is Reason.INTERNAL
    assert kv.reason_from_wire("") is None


@given(hosts)
def test_a_meeting_says_where_the_sender_runs(host: HostFacts) -> None:
    meet = Meet(layout=LAYOUT, scheme=b"s" * 8, host=host)
    assert kv.meet_from_wire(kv.meet_to_wire(meet)) == meet
    assert kv.meet_from_wire(kv.meet_to_wire(replace(meet, host=None))).host is None


def test_names_without_end_are_refused() -> None:
    long = HostFacts(boot_id="b", network_namespace=1, user=1, gpu=GpuFacts(uuid="u" * 257))
    with pytest.raises(InvalidRequest, match=r"meet\.host\.gpu"):
        kv.meet_from_wire(kv.meet_to_wire(Meet(layout=LAYOUT, scheme=b"s" * 8, host=long)))


@given(invitations)
def test_an_invitation_survives_the_store(invitation: SameHostInvitation) -> None:
    assert same_host.invitation_from_bytes(same_host.invitation_to_bytes(invitation)) == invitation


@given(st.binary(max_size=80))
def test_bytes_that_are_no_invitation_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        same_host.invitation_from_bytes(data)


def test_a_host_names_what_differs() -> None:
    here = HostFacts(boot_id="b", network_namespace=1, user=1000)
    assert here.difference(here) == ""
    assert "another machine" in here.difference(replace(here, boot_id="c"))
    assert "network namespace" in here.difference(replace(here, network_namespace=2))
    assert "user 0" in here.difference(replace(here, user=0))
    assert "does not say" in here.difference(None)
