"""Is this offer one we can take? Pure. Nothing is posted, claimed or allocated before it has passed here."""

from common.core.errors import Fenced, FieldViolation, InvalidRequest, Reason, TransferFailed
from common.core.ids import WorkerRef
from common.kv.digest import DIGEST_BYTES
from common.kv.layout import WORD_BYTES
from common.transfer.expectation import Expectation, InboundTransfer
from common.transfer.messages import Finale, Offer, PageRun
from common.transfer.plan import num_layers_of, part_bytes, run_bytes


def check_offer(offer: Offer, transfer: InboundTransfer, *, me: WorkerRef, max_run_bytes: int) -> None:
    """Raises Fenced (incarnation or attempt over), TransferFailed (has ended), InvalidRequest (numbers are wrong)."""
    _check_identity(offer, transfer, me)
    violations = [
        *_run_violations(offer, transfer.expectation, max_run_bytes),
        *_repeat_violations(offer, transfer),
        *_finale_violations(offer, transfer),
    ]
    if violations:
        raise InvalidRequest(
            message=f"offer for {transfer.id.reservation} refused: " + "; ".join(v.description for v in violations),
            violations=tuple(violations),
        )


def check_probe(offer: Offer, *, page_bytes: int, max_run_bytes: int) -> None:
    """Probe bytes belong to no transfer; the arithmetic is the same."""
    pages = offer.run.num_pages
    if (
        pages < 1
        or offer.run.layers is not None
        or offer.num_bytes != run_bytes(offer.run, page_bytes)
        or offer.num_bytes > max_run_bytes
    ):
        raise InvalidRequest(message=f"probe of {pages} pages and {offer.num_bytes} bytes cannot be staged here")
    if len(offer.digests) != pages * DIGEST_BYTES or offer.finale is not None:
        raise InvalidRequest(message=f"probe of {pages} pages with {len(offer.digests)} digest bytes")


def _check_identity(offer: Offer, transfer: InboundTransfer, me: WorkerRef) -> None:
    ref = offer.transfer
    assert ref is not None, "a probe has no transfer"
    if ref.receiver_epoch != me.epoch or ref.sender_epoch != offer.pair.sender.epoch:
        raise Fenced(message=f"{ref} names another incarnation of {me.worker} or {offer.pair.sender.worker}")
    if ref.transfer.attempt != transfer.id.attempt:
        raise Fenced(message=f"{ref} is over or not known yet: attempt {transfer.id.attempt} is expected")
    if transfer.outcome.is_terminal:
        why = transfer.outcome.reason or transfer.outcome.state
        raise TransferFailed(message=f"{ref} has ended here: {why}", reason=_told(transfer.outcome.reason))
    if ref.request != transfer.expectation.request:
        raise Fenced(message=f"{ref.transfer.reservation} was promised to another request than {ref.request}")
    if transfer.pair is not None and transfer.pair != offer.pair:
        raise Fenced(message=f"{ref} comes over {transfer.pair}, not over {offer.pair}")


def _run_violations(offer: Offer, wanted: Expectation, max_run_bytes: int) -> list[FieldViolation]:
    run, found = offer.run, []
    if run.num_pages < 0 or run.first_page < wanted.held_pages or run.end > wanted.total_pages:
        found.append(
            FieldViolation(
                field="first_page", description=f"pages {run} outside [{wanted.held_pages}, {wanted.total_pages})"
            )
        )
    if not _fits(run, wanted):
        found.append(FieldViolation(field="first_layer", description=f"{run.layers} of {wanted.num_layers}"))
    elif offer.num_bytes != run_bytes(run, wanted.page_bytes, wanted.num_layers):
        description = f"{offer.num_bytes} bytes are not pages {run} of {wanted.page_bytes}"
        found.append(FieldViolation(field="num_bytes", description=description))
    if offer.num_bytes > max_run_bytes:
        description = f"{offer.num_bytes} bytes exceed the staging buffer of {max_run_bytes}"
        found.append(FieldViolation(field="num_bytes", description=description))
    if len(offer.digests) != run.num_pages * DIGEST_BYTES:
        description = f"{len(offer.digests)} digest bytes for {run.num_pages} pages"
        found.append(FieldViolation(field="digests", description=description))
    return found


def _fits(run: PageRun, wanted: Expectation) -> bool:
    """Whole pages, or an equal part of their layers that has whole words: for its digests."""
    if run.layers is None:
        return True
    size = part_bytes(run, wanted.page_bytes, wanted.num_layers)
    return wanted.num_layers > 1 and run.layers.is_part_of(wanted.num_layers) and size % WORD_BYTES == 0


def _repeat_violations(offer: Offer, transfer: InboundTransfer) -> list[FieldViolation]:
    run = offer.run
    if _fits(run, transfer.expectation) and transfer.claimed.overlaps(run):
        return [FieldViolation(field="first_page", description=f"pages {run} were offered before")]
    if transfer.finale is not None:
        return [FieldViolation(field="first_page", description="the finale is in already")]
    return []


def _finale_violations(offer: Offer, transfer: InboundTransfer) -> list[FieldViolation]:
    finale, wanted = offer.finale, transfer.expectation
    if finale is None:
        if offer.run.num_pages == 0:
            return [FieldViolation(field="num_pages", description="an offer of no pages without a finale")]
        return []
    return [
        FieldViolation(field="finale", description=text) for text in _finale_faults(finale, offer, transfer, wanted)
    ]


def _finale_faults(finale: Finale, offer: Offer, transfer: InboundTransfer, wanted: Expectation) -> list[str]:
    found = []
    if finale.total_pages != wanted.total_pages:
        found.append(f"finale of {finale.total_pages} pages, promised are {wanted.total_pages}")
    missing = wanted.num_wanted_layers - transfer.claimed.num - num_layers_of(offer.run, wanted.num_layers)
    if missing:
        what = "pages" if wanted.num_layers == 1 else f"of {wanted.num_wanted_layers} layers of pages"
        found.append(f"finale while {missing} {what} are missing")
    choices = [first.choice for first in finale.first_tokens]
    if len(set(choices)) != len(choices) or not set(choices) <= set(wanted.choices):
        found.append(f"finale for choices {choices[:8]}, asked were {wanted.choices[:8]}")
    return found


def _told(reason: Reason | None) -> Reason:
    """CHANNEL_BROKEN would say that the pair of this very offer is broken; it is the transfer that ended."""
    return Reason.TRANSFER_FAILED if reason in (None, Reason.CHANNEL_BROKEN) else reason
