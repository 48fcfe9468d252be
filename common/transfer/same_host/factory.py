"""How both ends of a same_host pair meet, and by meeting prove that they can.

    receiver                                       sender
    makes the ring, listens on an abstract name
    store: invitation (name, token, sizes) ------> connects: only within one network namespace
    checks user and token <----------------------- shows the token
    hands over the ring's descriptor ------------> checks user, size, seals and header; maps it

Equal host facts at the meeting are a hint that spares a try; this is the proof. Pods have a network namespace each, so
two pods of one node do not meet here, and shall not: that would need hostIPC or hostNetwork.
"""

import asyncio
import hmac
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial

from common.core.entropy import Entropy
from common.core.errors import InvalidRequest, Reason, TransferFailed
from common.rpc.convert.same_host import TOKEN_BYTES, invitation_from_bytes, invitation_to_bytes
from common.transfer.channel import Channel, Side
from common.transfer.messages import DeviceMemory, HostFacts, Pair, SameHostInvitation
from common.transfer.pair_thread import run_aside
from common.transfer.rendezvous import RendezvousStore
from common.transfer.same_host.cudart import DeviceRuntime
from common.transfer.same_host.device import DeviceReceivingEnd, DeviceSendingEnd, Retained
from common.transfer.same_host.lending import HostSendingEnd
from common.transfer.same_host.line import Line
from common.transfer.same_host.receiving import ReceivingEnd
from common.transfer.same_host.ring import adopt_ring, create_ring
from common.transfer.same_host.sending import SendingEnd
from common.transfer.same_host.slots import DeviceSlots, adopt_slots, create_slots

INVITATION, COMING = "same_host/invitation", "same_host/coming"
NAME_BITS = 128
CREDENTIALS = struct.Struct("3i")  # process, user, group: what SO_PEERCRED gives
STRANGER_S = 0.5
"""Chosen: how long somebody who connects may take to show a token, so that a stranger holds up nobody."""


class SameHostFactory:
    """Rings of `num_slots` times `slot_bytes` are made at the receiver; a sender brings nothing."""

    name = "same_host"
    max_pairs: int | None = None

    def __init__(self, host: HostFacts, *, num_slots: int, slot_bytes: int, entropy: Entropy) -> None:
        self._host = host
        self._num_slots = num_slots
        self._slot_bytes = slot_bytes
        self._entropy = entropy

    def misfit(self, there: HostFacts | None) -> str:
        return self._host.difference(there)

    async def open(self, pair: Pair, side: Side, store: RendezvousStore, *, timeout_s: float) -> Channel:
        async with _deadline(pair, timeout_s):
            if side is Side.RECEIVER:
                return await self._invite(pair, store, timeout_s)
            invitation = await self._read_invitation(store, timeout_s)
            if invitation.device is not None:
                raise TransferFailed(message="the other end receives into a GPU", reason=Reason.CHANNEL_BROKEN)
            sender, _ = await self._join(pair, invitation, store)
            return HostSendingEnd(sender)

    async def open_device(
        self,
        pair: Pair,
        side: Side,
        store: RendezvousStore,
        runtime: DeviceRuntime,
        retained: Retained,
        *,
        timeout_s: float,
    ) -> DeviceSendingEnd | DeviceReceivingEnd:
        """The same with slots in device memory. Not run: needs a GPU."""
        async with _deadline(pair, timeout_s):
            if side is Side.RECEIVER:
                return await self._invite_device(pair, store, runtime, retained, timeout_s)
            invitation = await self._read_invitation(store, timeout_s)
            if invitation.device is None:
                raise TransferFailed(message="the other end receives into host memory", reason=Reason.CHANNEL_BROKEN)
            sender, (grip,) = await self._join(pair, invitation, store, num_grips=1)
            try:
                slots = await _taken(partial(adopt_slots, runtime, invitation, grip), f"map slots of {pair}")
            except BaseException:
                await sender.close()
                raise
            return DeviceSendingEnd(sender, slots)

    async def _invite_device(
        self, pair: Pair, store: RendezvousStore, runtime: DeviceRuntime, retained: Retained, timeout_s: float
    ) -> DeviceReceivingEnd:
        """Until the grip is handed over nobody maps the slots, and they may be freed; from there on nothing fails."""
        make = partial(create_slots, runtime, num_slots=self._num_slots, slot_bytes=self._slot_bytes)
        slots = await _taken(make, f"make slots of {pair}")
        try:
            grip, others = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            await slots.close()
            raise TransferFailed(message=f"{pair}: {error.strerror}", reason=Reason.CHANNEL_BROKEN) from error
        try:
            receiver = await self._invite(pair, store, timeout_s, slots.memory(), others)
        except BaseException:
            os.close(grip)
            await slots.close()
            raise
        finally:
            os.close(others)
        return DeviceReceivingEnd(receiver, slots, grip, retained)

    async def _invite(
        self,
        pair: Pair,
        store: RendezvousStore,
        timeout_s: float,
        device: DeviceMemory | None = None,
        grip: int | None = None,
    ) -> ReceivingEnd:
        with ExitStack() as undo:
            ring, descriptor = create_ring(pair, num_slots=self._num_slots, slot_bytes=self._slot_bytes)
            undo.callback(os.close, descriptor)
            keep = undo.enter_context(ExitStack())
            keep.callback(ring.close)
            token = self._entropy.bits(TOKEN_BYTES * 8).to_bytes(TOKEN_BYTES, "little")
            name = b"\0baton/%032x" % self._entropy.bits(NAME_BITS)
            listener = undo.enter_context(_new_socket())
            listener.bind(name)
            listener.listen(1)
            invitation = SameHostInvitation(
                socket_name=name,
                token=token,
                num_slots=self._num_slots,
                slot_bytes=self._slot_bytes,
                device=device,
            )
            await store.put(INVITATION, invitation_to_bytes(invitation))
            if await store.get(COMING, wait_s=timeout_s) is None:
                raise TimeoutError
            connection = await _accept(listener, token)
            keep.callback(connection.close)
            socket.send_fds(connection, [b"\1"], [descriptor] if grip is None else [descriptor, grip])
            end = ReceivingEnd(ring, Line(connection, pair))
            keep.pop_all()
            return end

    async def _read_invitation(self, store: RendezvousStore, timeout_s: float) -> SameHostInvitation:
        data = await store.get(INVITATION, wait_s=timeout_s)
        if data is None:
            raise TimeoutError
        return invitation_from_bytes(data)

    async def _join(
        self, pair: Pair, invitation: SameHostInvitation, store: RendezvousStore, *, num_grips: int = 0
    ) -> tuple[SendingEnd, tuple[int, ...]]:
        """The end, and the grips that came beside the ring: the caller's to close."""
        await store.put(COMING, b"")
        loop = asyncio.get_running_loop()
        with ExitStack() as undo:
            connection = _new_socket()
            undo.callback(connection.close)
            await loop.sock_connect(connection, invitation.socket_name)
            _check_user(connection)
            await loop.sock_sendall(connection, invitation.token)
            descriptor, *grips = await _receive_descriptors(connection, 1 + num_grips)
            for grip in grips:
                undo.callback(os.close, grip)
            try:
                ring = adopt_ring(descriptor, pair, num_slots=invitation.num_slots, slot_bytes=invitation.slot_bytes)
            finally:
                os.close(descriptor)
            end = SendingEnd(ring, Line(connection, pair))
            undo.pop_all()
            return end, tuple(grips)


@asynccontextmanager
async def _deadline(pair: Pair, timeout_s: float) -> AsyncIterator[None]:
    """Whatever goes wrong in an opening is TransferFailed, and says whether the other end was silent or unfit."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        message = f"{pair} did not open within {timeout_s} s"
        raise TransferFailed(message=message, reason=Reason.TRANSFER_TIMEOUT) from None
    except (OSError, InvalidRequest) as error:
        message = f"{pair}: the other end is out of this host's reach: {error}"
        raise TransferFailed(message=message, reason=Reason.CHANNEL_BROKEN) from None


def _new_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


async def _accept(listener: socket.socket, token: bytes) -> socket.socket:
    """The first who shows the token. Strangers are sent away; the caller's deadline ends it."""
    loop = asyncio.get_running_loop()
    while True:
        connection, _ = await loop.sock_accept(listener)
        try:
            async with asyncio.timeout(STRANGER_S):
                _check_user(connection)
                shown = b""
                while len(shown) < TOKEN_BYTES and (more := await loop.sock_recv(connection, TOKEN_BYTES - len(shown))):
                    shown += more
            if hmac.compare_digest(shown, token):
                return connection
        except (OSError, TimeoutError):
            connection.close()
        except BaseException:
            connection.close()
            raise
        else:
            connection.close()


def _check_user(connection: socket.socket) -> None:
    """Raises PermissionError unless the other end runs as the same user: abstract names have no permissions."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    _, user, _ = CREDENTIALS.unpack(raw)
    if user != os.geteuid():
        raise PermissionError(f"it runs as user {user}")


async def _receive_descriptors(connection: socket.socket, count: int) -> list[int]:
    """The descriptors that follow. Raises ConnectionError when the other end sends us away."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(connection.fileno(), tell)
    try:
        await readable  # bounded: the deadline of the opening
    finally:
        loop.remove_reader(connection.fileno())
    data, descriptors, _, _ = socket.recv_fds(connection, 1, count, socket.MSG_CMSG_CLOEXEC)
    if not data or len(descriptors) != count:
        for descriptor in descriptors:
            os.close(descriptor)
        raise ConnectionError("the ring was not handed over")
    return descriptors


async def _taken(make: Callable[[], DeviceSlots], name: str) -> DeviceSlots:
    """Made on a thread of its own: a driver may take its time, or hang. What comes after its caller left is closed."""
    coming = run_aside(make, name)
    try:
        return await asyncio.shield(coming)
    except asyncio.CancelledError:
        coming.add_done_callback(_close_late)
        raise


def _close_late(come: "asyncio.Future[DeviceSlots]") -> None:
    if not come.cancelled() and come.exception() is None:
        _ = run_aside(come.result().close_blocking, "close late slots")  # nobody is left to wait for it
