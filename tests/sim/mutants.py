"""Famous bugs, put back into production objects for as long as a test lasts, and the bugs that storms have found."""

import asyncio
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from common.core.ids import PageId, SequenceId
from common.engine import telling
from common.engine.batch import Batch
from common.engine.sequence import Sequence
from common.rpc import client
from common.transfer import link, outbound
from common.transfer.lane import LentSlot
from common.transfer.messages import PageRun
from common.transfer.outbound import OutboundTransfer
from common.transfer.plan import split
from common.transfer.scope import wait_over
from common.worker.landing import Lander, Landing, _Waiting
from common.worker.permit import Permit, PermitState
from services.decode import runner
from services.prefill.messages import RunReady
from services.prefill.shipping import Shipping
from services.router.cancellations import Cancellations
from services.router.fleet import Fleet

Break = Callable[[pytest.MonkeyPatch], None]


def forget_to_free(patch: pytest.MonkeyPatch) -> None:
    def retire(self: Batch, sequence: SequenceId) -> None:
        self._sequences.pop(sequence)

    patch.setattr(Batch, "retire", retire)


def double_free(patch: pytest.MonkeyPatch) -> None:
    def retire(self: Batch, sequence: SequenceId) -> None:
        pages = self._sequences.pop(sequence).pages
        self._holdings.give_back(pages)
        self._holdings.give_back(pages)

    patch.setattr(Batch, "retire", retire)


def free_under_a_writer(patch: pytest.MonkeyPatch) -> None:
    """Pages go back while a copy still writes them: whoever revokes a permit does not ask who is inside."""

    def revoke(self: Permit) -> bool:
        self._state = PermitState.OVER
        return True

    def enter(self: Permit) -> bool:
        return True

    patch.setattr(Permit, "revoke", revoke)
    patch.setattr(Permit, "enter", enter)
    patch.setattr(Permit, "leave", enter)


def skip_the_epoch_check(patch: pytest.MonkeyPatch) -> None:
    """A zombie does not see that another incarnation holds its name."""
    from common.directory.registration import Registration

    patch.setattr(Registration, "_foreign", lambda self, record: None)


def token_offset_by_one(patch: pytest.MonkeyPatch) -> None:
    """Every token after the first is told under the next index."""
    original = telling.tokens_emitted

    def shifted(draw: Any) -> Any:
        event = original(draw)
        return replace(event, first_index=event.first_index + 1) if event.first_index else event

    patch.setattr(runner, "tokens_emitted", shifted)


def resumed_one_token_late(patch: pytest.MonkeyPatch) -> None:
    """Where an answer goes on after a loss, the noise of the next position is drawn."""
    original = Sequence.row

    def row(self: Sequence, num_tokens: int, *, page_size: int) -> Any:
        made = original(self, num_tokens, page_size=page_size)
        if not self.work.emitted:
            return made
        return replace(made, samples=tuple(replace(each, position=each.position + 1) for each in made.samples))

    patch.setattr(Sequence, "row", row)


def drop_a_cancel(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cancellations, "submit", lambda self, worker, cancel: None)


def land_in_another_order(patch: pytest.MonkeyPatch) -> None:
    original = Permit.pages_of

    def pages_of(self: Permit, run: PageRun) -> list[PageId]:
        return original(self, run)[::-1]

    patch.setattr(Permit, "pages_of", pages_of)


def free_before_the_bytes_left(patch: pytest.MonkeyPatch) -> None:
    """Prefill gives a staging buffer back when its run is offered, not when it was sent."""
    original = Shipping._ship_run

    async def ship_run(self: Shipping, transfer: OutboundTransfer, ready: RunReady) -> None:
        kept = _Kept(ready.staging.view) if ready.staging is not None else None
        if ready.staging is not None:
            ready.staging.release()
            self._wake()
        await original(self, transfer, replace(ready, staging=kept))  # type: ignore[arg-type]

    def release(self: Shipping, ready: RunReady) -> None:
        if ready.staging is not None and ready.staging._buffer is not None:
            ready.staging.release()
        self._wake()

    patch.setattr(Shipping, "_ship_run", ship_run)
    patch.setattr(Shipping, "_release", release)


def acknowledge_before_landing(patch: pytest.MonkeyPatch) -> None:
    """Decode gives a staging buffer back, and its sender peace, before the bytes are in their pages."""

    async def land(self: Lander, waiting: _Waiting) -> None:
        arrival = waiting.arrival
        lost = replace(waiting, arrival=replace(arrival, staging=_Kept(arrival.staging.view)))
        self._inbound.landed(arrival)
        for piece in split(arrival.run, 1):
            if await self._land_piece(lost, piece) is not Landing.LANDED:
                return

    patch.setattr(Lander, "_land", land)


def a_closed_channel_cancels_its_caller(patch: pytest.MonkeyPatch) -> None:
    """Found in a storm: a worker was replaced while a request was being placed on it."""
    import grpc

    from common.rpc.errors import from_rpc_error

    @contextmanager
    def translated(peer: str) -> Any:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, peer=peer) from error

    patch.setattr(client, "translated", translated)


def an_aborted_transfer_opens_its_link_again(patch: pytest.MonkeyPatch) -> None:
    """Found in a storm: the whole prefill worker fell over it."""

    async def reopen(self: OutboundTransfer) -> Any:
        assert self._link is not None
        self._links.let_go(self._link)
        self._link = None
        return await self._hold_link()

    patch.setattr(OutboundTransfer, "_reopen", reopen)


def a_cancel_waits_for_a_broken_stream(patch: pytest.MonkeyPatch) -> None:
    """Found in a storm: what was not heard in a short blackout was never said again."""
    original = Fleet._hear

    async def hear(self: Fleet, standing: Any, message: Any) -> None:
        with pytest.MonkeyPatch.context() as inner:
            if standing.is_connected:
                inner.setattr(Cancellations, "send_again", lambda self, worker: None)
            await original(self, standing, message)

    patch.setattr(Fleet, "_hear", hear)


def a_lent_slot_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Whoever ships gives back what was shipped, and nothing where that failed."""
    original = LentSlot.release

    def release(self: LentSlot) -> None:
        if self._slot is not None and self._slot.is_sent:  # type: ignore[attr-defined]
            original(self)

    patch.setattr(LentSlot, "release", release)


def an_error_keeps_what_it_passed(patch: pytest.MonkeyPatch) -> None:
    """Found in a storm: a failed frame's error and its task held each other, and the ring in between."""

    async def outlast(work: asyncio.Future[Any]) -> Any:
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await wait_over(work)
            raise

    patch.setattr(outbound, "outlast", outlast)


def a_deadline_keeps_its_task(patch: pytest.MonkeyPatch) -> None:
    """Found in a storm: the error of a frame that came too late led to its task by way of the deadline."""
    patch.setattr(link, "sever", lambda error: None)


class _Kept:
    """A view of a buffer that was given back."""

    def __init__(self, view: memoryview) -> None:
        self.view = view

    def release(self) -> None:
        raise AssertionError("it went back already")
