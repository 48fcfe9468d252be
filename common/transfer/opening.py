"""How a link to one peer opens: over the best channel that both ends can, within one deadline for all that is tried.

    for each channel worth a try, best first:
        room here --no--> full       meet --they differ, no room there--> misfit, full
        open in a share of the time --nothing heard--> silent --a failure--> broken
        open: the link
    and what stops the last one is the answer

Better channels get half of the time that is left, each; the last gets the rest. A peer that does not answer the meeting
is no channel's fault and ends it all; so a failure is held against a channel only when another one opened after it.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from common.core.clock import Clock
from common.core.entropy import Entropy
from common.core.errors import BatonError, DeadlineExceeded, Mismatch, Reason, Refused, TransferFailed
from common.core.ids import WorkerRef
from common.kv.digest import DigestKey
from common.observe.logging import get_log
from common.transfer.channel import Channel, ChannelFactory, Side
from common.transfer.counters import TransferCounters
from common.transfer.dock import Dock
from common.transfer.lane import Lanes
from common.transfer.limits import TransferLimits
from common.transfer.link import Link
from common.transfer.menu import ChannelMenu
from common.transfer.messages import Meet, Met, Pair
from common.transfer.pair_thread import first_line
from common.transfer.peer import Peer, Peers, RemoteStore
from common.transfer.scope import TaskScope
from common.transfer.setbacks import FAILURES, Setback, SetbackCause, Setbacks

NONCE_RANDOM_BITS: Final = 32

MakeRoom = Callable[[ChannelFactory], Awaitable[None]]
"""For one more link over this channel. Raises Refused when all of them are in use."""

_LOG = get_log("transfer")


def share_s(left_s: float, num_after: int) -> float:
    """What the next candidate may take of the time that is left: half while others come after it."""
    return left_s if num_after == 0 else left_s / 2


class Opener:
    """Writer: the event loop. Openings to several peers run beside each other; to one peer there is one at a time."""

    def __init__(
        self,
        me: WorkerRef,
        *,
        meet: Meet,
        peers: Peers,
        channels: ChannelMenu,
        limits: TransferLimits,
        counters: TransferCounters,
        scope: TaskScope,
        clock: Clock,
        entropy: Entropy,
        dock: Dock | None = None,
        lanes: Lanes | None = None,
    ) -> None:
        self.under_way: Counter[str] = Counter()
        """Openings by channel: they take room before there is a link."""
        self._me = me
        self._meet = meet
        self._peers = peers
        self._channels = channels
        self._limits = limits
        self._counters = counters
        self._scope = scope
        self._clock = clock
        self._entropy = entropy
        self._dock = dock
        self._lanes = lanes
        self._setbacks = Setbacks(limits.channel_retry_s)
        self._last_nonce = 0

    def plan(self, peer: WorkerRef) -> tuple[tuple[ChannelFactory, ...], tuple[Setback, ...]]:
        """What to try with this incarnation now, best first, and what not. The last channel is always worth a try."""
        now = self._clock.monotonic()
        *better, last = self._channels.factories
        found = [(factory, self._setbacks.find(peer, factory.name, now)) for factory in better]
        candidates = (*(factory for factory, setback in found if setback is None), last)
        return candidates, tuple(setback for _, setback in found if setback is not None)

    async def open(self, peer: WorkerRef, make_room: MakeRoom) -> Link:
        """Raises what stopped the last candidate, or what the peer answered to the meeting."""
        ends_at = self._clock.monotonic() + self._limits.open_timeout_s
        (*better, last), passed = self.plan(peer)
        failed: list[Setback] = []
        for index, factory in enumerate(better):
            found = await self._try(peer, factory, make_room, ends_at, num_after=len(better) - index)
            if isinstance(found, Link):
                return self._settle(peer, found, passed, failed)
            passed = (*passed, found)
            failed += [found] if found.cause in FAILURES else []
        return self._settle(peer, await self._connect(peer, last, make_room, ends_at, num_after=0), passed, failed)

    async def _try(
        self, peer: WorkerRef, factory: ChannelFactory, make_room: MakeRoom, ends_at: float, *, num_after: int
    ) -> Link | Setback:
        """A link, or why there is none over this channel. Raises what would stop every other channel too."""
        self._setbacks.begin(factory.name, self._clock.monotonic())
        try:
            return await self._connect(peer, factory, make_room, ends_at, num_after=num_after)
        except Mismatch as error:
            cause, why = SetbackCause.MISFIT, error.message
        except Refused as error:
            cause, why = SetbackCause.FULL, error.message
        except TransferFailed as error:
            is_silent = error.reason is Reason.TRANSFER_TIMEOUT
            cause, why = SetbackCause.SILENT if is_silent else SetbackCause.BROKEN, error.message
        if cause in FAILURES:  # whether it was the channel, the next one tells
            return Setback(channel=factory.name, cause=cause, why=why)
        return self._note(peer, factory.name, cause, why)

    def _settle(self, peer: WorkerRef, link: Link, passed: tuple[Setback, ...], failed: list[Setback]) -> Link:
        """The peer lives and can be reached: what failed before did so by itself."""
        for setback in failed:
            self._note(peer, setback.channel, setback.cause, setback.why)
        for setback in passed:
            self._counters.passed_over[setback.channel, setback.cause] += 1
        self._setbacks.opened(peer, link.pair.channel)
        link.passed_over = "; ".join(f"{setback.channel} ({setback.cause}): {setback.why}" for setback in passed)
        return link

    def _note(self, peer: WorkerRef, channel: str, cause: SetbackCause, why: str) -> Setback:
        """Remembered and told: once per try, and tries are rare."""
        now = self._clock.monotonic()
        setback = self._setbacks.note(peer, channel, cause, why, now)
        tell = _LOG.info if cause is SetbackCause.MISFIT else _LOG.warning
        retry_s = None if setback.until_s is None else round(setback.until_s - now, 3)
        tell(
            "channel_passed_over",
            worker=self._me.worker,
            peer=peer.worker,
            channel=channel,
            cause=cause,
            why=why,
            retry_s=retry_s,
        )
        return setback

    async def _connect(
        self, receiver: WorkerRef, factory: ChannelFactory, make_room: MakeRoom, ends_at: float, *, num_after: int
    ) -> Link:
        self.under_way[factory.name] += 1
        try:
            await make_room(factory)
            pair = Pair(sender=self._me, receiver=receiver, nonce=self._next_nonce(), channel=factory.name)
            peer = self._peers.at(pair.receiver)
            met = await self._met(peer, pair)
            timeout_s = share_s(max(0.0, ends_at - self._clock.monotonic()), num_after)
            channel = await self._open_channel(pair, peer, factory, timeout_s)
        finally:
            self.under_way[factory.name] -= 1
        link = Link(
            pair,
            peer=peer,
            channel=channel,
            digest_key=DigestKey(met.digest_key),
            max_run_bytes=met.max_run_bytes,
            takes_layers=met.takes_layers,
            limits=self._limits,
            counters=self._counters,
            scope=self._scope,
            clock=self._clock,
            dock=self._dock,
        )
        link.lane = None if self._lanes is None else self._lanes.open(link.pair, link.digest_key, link.lend_slot)
        return link

    async def _met(self, peer: Peer, pair: Pair) -> Met:
        for tries_left in reversed(range(self._limits.control_tries)):
            try:
                return await peer.meet(pair, self._meet, timeout_s=self._limits.control_timeout_s)
            except DeadlineExceeded:
                if tries_left == 0:
                    raise
        raise AssertionError("transfer limits without a try")

    async def _open_channel(self, pair: Pair, peer: Peer, factory: ChannelFactory, timeout_s: float) -> Channel:
        """Raises TransferFailed and nothing else: libraries behind a channel have errors of their own."""
        store = RemoteStore(peer, pair, control_timeout_s=self._limits.control_timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await factory.open(pair, Side.SENDER, store, timeout_s=timeout_s)
        except TransferFailed:
            raise
        except (TimeoutError, DeadlineExceeded):
            message = f"{pair} did not open within {timeout_s:.3g} s"
            raise TransferFailed(message=message, reason=Reason.TRANSFER_TIMEOUT) from None
        except BatonError as error:
            raise TransferFailed(message=f"{pair}: {error.message}", reason=Reason.CHANNEL_BROKEN) from error
        except Exception as error:
            self._counters.incidents["channel_crashed"] += 1
            message = f"{pair}: {type(error).__name__}: {first_line(error)}"
            raise TransferFailed(message=message, reason=Reason.CHANNEL_BROKEN) from error

    def _next_nonce(self) -> int:
        """Grows within an epoch, so that a late word of an older pair is recognised; random in its low half."""
        sequence = (self._last_nonce >> NONCE_RANDOM_BITS) + 1
        self._last_nonce = (sequence << NONCE_RANDOM_BITS) | self._entropy.bits(NONCE_RANDOM_BITS)
        return self._last_nonce
