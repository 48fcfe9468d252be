"""What workers say to each other about pages: kv.proto and common/transfer/messages."""

from common.core.errors import Reason
from common.core.ids import Epoch, RequestId, ReservationId, TokenId, TransferId
from common.core.ticket import PrefixTicket, Ticket
from common.kv.layout import LayerSpan, PageLayout
from common.rpc.convert.fields import require
from common.rpc.convert.host import host_from_wire, host_to_wire
from common.rpc.convert.logprobs import logprobs_from_wire, logprobs_to_wire
from common.rpc.convert.worker import worker_from_wire, worker_to_wire
from common.transfer.messages import (
    Fetch,
    Finale,
    FirstToken,
    Meet,
    Met,
    Offer,
    Outcome,
    OutcomeState,
    PageRun,
    Pair,
    ProbeReport,
    TransferRef,
)
from protos.baton.v1 import kv_pb2, types_pb2

MAX_TEXT = 256
"""Chosen: ids, keys and reasons are short; longer ones are refused before they are stored anywhere."""

_OUTCOMES = {
    OutcomeState.PENDING: kv_pb2.TRANSFER_OUTCOME_PENDING,
    OutcomeState.DONE: kv_pb2.TRANSFER_OUTCOME_DONE,
    OutcomeState.FAILED: kv_pb2.TRANSFER_OUTCOME_FAILED,
    OutcomeState.EXPIRED: kv_pb2.TRANSFER_OUTCOME_EXPIRED,
}
_OUTCOME_OF = {wire: core for core, wire in _OUTCOMES.items()}


def pair_to_wire(pair: Pair) -> kv_pb2.Pair:
    return kv_pb2.Pair(
        sender=worker_to_wire(pair.sender),
        receiver=worker_to_wire(pair.receiver),
        nonce=pair.nonce,
        channel=pair.channel,
    )


def pair_from_wire(message: kv_pb2.Pair) -> Pair:
    require(message.nonce != 0, "pair.nonce", "missing")
    _require_short(message.channel, "pair.channel")
    return Pair(
        sender=worker_from_wire(message.sender),
        receiver=worker_from_wire(message.receiver),
        nonce=message.nonce,
        channel=message.channel,
    )


def meet_to_wire(meet: Meet) -> kv_pb2.Meet:
    message = kv_pb2.Meet(layout=layout_to_wire(meet.layout, meet.scheme))
    if meet.host is not None:
        message.host.CopyFrom(host_to_wire(meet.host))
    return message


def meet_from_wire(message: kv_pb2.Meet) -> Meet:
    return Meet(
        layout=layout_from_wire(message.layout),
        scheme=message.layout.scheme_fingerprint,
        host=host_from_wire(message.host) if message.HasField("host") else None,
    )


def layout_to_wire(layout: PageLayout, scheme: bytes) -> types_pb2.PageLayout:
    return types_pb2.PageLayout(
        num_layers=layout.num_layers,
        num_kv_heads=layout.num_kv_heads,
        head_dim=layout.head_dim,
        page_size=layout.page_size,
        dtype=layout.dtype,
        tensor_parallel=layout.tensor_parallel,
        page_bytes=layout.page_bytes,
        model_digest=layout.model_digest,
        scheme_fingerprint=scheme,
    )


def layout_from_wire(message: types_pb2.PageLayout) -> PageLayout:
    """Raises Mismatch for numbers that describe no page, InvalidRequest when page_bytes is not their product."""
    layout = PageLayout(
        num_layers=message.num_layers,
        num_kv_heads=message.num_kv_heads,
        head_dim=message.head_dim,
        page_size=message.page_size,
        dtype=message.dtype,
        tensor_parallel=message.tensor_parallel,
        model_digest=message.model_digest,
    )
    description = f"{message.page_bytes} bytes stated, the shape has {layout.page_bytes}"
    require(message.page_bytes == layout.page_bytes, "layout.page_bytes", description)
    return layout


def met_to_wire(met: Met) -> kv_pb2.Met:
    return kv_pb2.Met(digest_key=met.digest_key, max_run_bytes=met.max_run_bytes, takes_layers=met.takes_layers)


def met_from_wire(message: kv_pb2.Met) -> Met:
    require(len(message.digest_key) == 32, "met.digest_key", f"{len(message.digest_key)} bytes, not 32")
    return Met(digest_key=message.digest_key, max_run_bytes=message.max_run_bytes, takes_layers=message.takes_layers)


def transfer_to_wire(ref: TransferRef) -> kv_pb2.TransferRef:
    return kv_pb2.TransferRef(
        reservation_id=ref.transfer.reservation,
        request_id=ref.request,
        attempt=ref.transfer.attempt,
        receiver_epoch=ref.receiver_epoch,
        sender_epoch=ref.sender_epoch,
    )


def transfer_from_wire(message: kv_pb2.TransferRef) -> TransferRef:
    require(message.reservation_id != "", "transfer.reservation_id", "missing")
    require(message.attempt > 0, "transfer.attempt", "attempts count from 1")
    _require_short(message.reservation_id, "transfer.reservation_id")
    _require_short(message.request_id, "transfer.request_id")
    return TransferRef(
        transfer=TransferId(reservation=ReservationId(message.reservation_id), attempt=message.attempt),
        request=RequestId(message.request_id),
        sender_epoch=Epoch(message.sender_epoch),
        receiver_epoch=Epoch(message.receiver_epoch),
    )


def offer_to_wire(offer: Offer) -> kv_pb2.OfferRequest:
    return kv_pb2.OfferRequest(
        transfer=None if offer.transfer is None else transfer_to_wire(offer.transfer),
        pair=pair_to_wire(offer.pair),
        frame=offer.frame,
        first_page=offer.run.first_page,
        num_pages=offer.run.num_pages,
        first_layer=0 if offer.run.layers is None else offer.run.layers.first,
        num_layers=0 if offer.run.layers is None else offer.run.layers.num,
        num_bytes=offer.num_bytes,
        digests=offer.digests,
        finale=None if offer.finale is None else finale_to_wire(offer.finale),
    )


def offer_from_wire(message: kv_pb2.OfferRequest) -> Offer:
    require(message.num_layers > 0 or message.first_layer == 0, "num_layers", "missing beside first_layer")
    return Offer(
        pair=pair_from_wire(message.pair),
        transfer=transfer_from_wire(message.transfer) if message.HasField("transfer") else None,
        frame=message.frame,
        run=PageRun(
            first_page=message.first_page,
            num_pages=message.num_pages,
            layers=LayerSpan(first=message.first_layer, num=message.num_layers) if message.num_layers else None,
        ),
        num_bytes=message.num_bytes,
        digests=message.digests,
        finale=finale_from_wire(message.finale) if message.HasField("finale") else None,
    )


def finale_to_wire(finale: Finale) -> kv_pb2.Finale:
    return kv_pb2.Finale(
        first_tokens=map(first_token_to_wire, finale.first_tokens),
        total_pages=finale.total_pages,
        cached_tokens=finale.cached_tokens,
        prompt_logprobs=map(logprobs_to_wire, finale.prompt_logprobs),
    )


def finale_from_wire(message: kv_pb2.Finale) -> Finale:
    return Finale(
        first_tokens=tuple(map(first_token_from_wire, message.first_tokens)),
        total_pages=message.total_pages,
        cached_tokens=message.cached_tokens,
        prompt_logprobs=tuple(map(logprobs_from_wire, message.prompt_logprobs)),
    )


def first_token_to_wire(first: FirstToken) -> kv_pb2.FirstToken:
    return kv_pb2.FirstToken(
        choice=first.choice,
        token_id=first.token,
        logprobs=None if first.logprobs is None else logprobs_to_wire(first.logprobs),
    )


def first_token_from_wire(message: kv_pb2.FirstToken) -> FirstToken:
    return FirstToken(
        choice=message.choice,
        token=TokenId(message.token_id),
        logprobs=logprobs_from_wire(message.logprobs) if message.HasField("logprobs") else None,
    )


def outcome_to_wire(outcome: Outcome) -> kv_pb2.AckResponse:
    return kv_pb2.AckResponse(
        outcome=_OUTCOMES[outcome.state],
        reason="" if outcome.reason is None else outcome.reason.value,
        landed_pages=outcome.landed_pages,
        message=outcome.message[:MAX_TEXT],
    )


def outcome_from_wire(message: kv_pb2.AckResponse) -> Outcome:
    require(message.outcome in _OUTCOME_OF, "outcome", f"unknown outcome {message.outcome}")
    return Outcome(
        state=_OUTCOME_OF[message.outcome],
        reason=reason_from_wire(message.reason),
        message=message.message,
        landed_pages=message.landed_pages,
    )


def reason_from_wire(name: str) -> Reason | None:
    """None for the empty name; INTERNAL for a reason that a newer peer knows and we do not."""
    if name == "":
        return None
    return Reason(name) if name in Reason.__members__ else Reason.INTERNAL


def ticket_to_wire(ticket: Ticket) -> kv_pb2.Ticket:
    return kv_pb2.Ticket(
        holder=worker_to_wire(ticket.holder),
        request_id=ticket.request,
        num_pages=ticket.num_pages,
        lease_ms=round(ticket.lease_s * 1000),
        nonce=ticket.nonce,
        signature=ticket.signature,
    )


def ticket_from_wire(message: kv_pb2.Ticket) -> Ticket:
    _require_short(message.request_id, "ticket.request_id")
    return Ticket(
        holder=worker_from_wire(message.holder),
        request=RequestId(message.request_id),
        num_pages=message.num_pages,
        lease_s=message.lease_ms / 1000,
        nonce=message.nonce,
        signature=message.signature,
    )


def prefix_to_wire(prefix: PrefixTicket | None) -> kv_pb2.PrefixTicket | None:
    if prefix is None:
        return None
    return kv_pb2.PrefixTicket(ticket=ticket_to_wire(prefix.ticket), patience_ms=round(prefix.patience_s * 1000))


def prefix_from_wire(message: kv_pb2.PrefixTicket) -> PrefixTicket:
    return PrefixTicket(ticket=ticket_from_wire(message.ticket), patience_s=message.patience_ms / 1000)


def fetch_to_wire(fetch: Fetch) -> kv_pb2.FetchRequest:
    return kv_pb2.FetchRequest(
        ticket=ticket_to_wire(fetch.ticket),
        transfer=transfer_to_wire(fetch.transfer),
        receiver=worker_to_wire(fetch.receiver),
        held_pages=fetch.held_pages,
        context_digest=fetch.context_digest,
    )


def fetch_from_wire(message: kv_pb2.FetchRequest) -> Fetch:
    return Fetch(
        ticket=ticket_from_wire(message.ticket),
        transfer=transfer_from_wire(message.transfer),
        receiver=worker_from_wire(message.receiver),
        held_pages=message.held_pages,
        context_digest=message.context_digest,
    )


def probe_to_wire(report: ProbeReport) -> kv_pb2.ProbeResponse:
    return kv_pb2.ProbeResponse(
        control_seconds=report.control_s,
        setup_seconds=report.setup_s,
        data_seconds=report.data_s,
        num_bytes=report.num_bytes,
        channel=report.channel,
        passed_over=report.passed_over[:MAX_TEXT],
    )


def _require_short(text: str, field: str) -> None:
    require(len(text) <= MAX_TEXT, field, f"{len(text)} characters, at most {MAX_TEXT}")
