"""The sending ends of a worker: one live link per peer incarnation, opened when first needed."""

import asyncio
from collections.abc import Sequence
from typing import Final

from common.core.clock import Clock
from common.core.entropy import Entropy
from common.core.errors import BatonError, DeadlineExceeded, Mismatch, Reason, Refused, TransferFailed
from common.core.ids import WorkerId, WorkerRef
from common.kv.digest import DigestKey
from common.observe.logging import get_log
from common.transfer.channel import ChannelFactory, Side
from common.transfer.counters import TransferCounters
from common.transfer.limits import TransferLimits
from common.transfer.link import Link
from common.transfer.menu import ChannelMenu
from common.transfer.messages import Meet, Pair
from common.transfer.peer import Peers, RemoteStore
from common.transfer.scope import TaskScope

NONCE_RANDOM_BITS: Final = 32

_LOG = get_log("transfer")


class LinkTable:
    """Writer: the event loop. Holds at most `limits.max_links`; beyond, the least recently used idle link is closed."""

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
    ) -> None:
        self._me = me
        self._meet = meet
        self._peers = peers
        self._channels = channels
        self._limits = limits
        self._counters = counters
        self._scope = scope
        self._clock = clock
        self._entropy = entropy
        self._links: dict[WorkerId, Link] = {}
        self._opening: dict[WorkerId, tuple[WorkerRef, asyncio.Task[Link]]] = {}
        self._last_nonce = 0

    def __len__(self) -> int:
        return len(self._links)

    async def hold(self, peer: WorkerRef) -> Link:
        """A live link to this incarnation, held until `let_go`. State of other incarnations is dropped first.

        Raises Mismatch (layouts differ), Fenced (the peer is another incarnation), TransferFailed or Unavailable (it
        cannot be reached), Refused (every link is in use).
        """
        known = self._links.get(peer.worker)
        if known is not None and (known.pair.receiver.epoch != peer.epoch or not known.is_live or known.is_worn):
            await self._drop(known, f"replaced by {peer.worker} epoch {peer.epoch:016x}")
        if (link := self._links.get(peer.worker)) is None:
            link = await self._open_once(peer)
        link.users += 1
        link.used_at = self._clock.monotonic()
        return link

    def takes_layers(self, peer: WorkerRef) -> bool:
        """Whether this incarnation is known to take runs of some layers: it said so when a link to it was opened."""
        link = self._links.get(peer.worker)
        return link is not None and link.pair.receiver.epoch == peer.epoch and link.takes_layers

    def let_go(self, link: Link) -> None:
        """Gives a held link back. It stays open for the next transfer."""
        assert link.users > 0, f"{link.pair} given back twice"
        link.users -= 1

    async def drop_peer(self, worker: WorkerId, reason: str) -> None:
        """Ends the link to `worker`, if any: it left, or the directory knows a newer incarnation."""
        if (link := self._links.get(worker)) is not None:
            await self._drop(link, reason)

    async def close(self) -> None:
        for link in tuple(self._links.values()):
            await self._drop(link, "shutting down")

    async def _open_once(self, peer: WorkerRef) -> Link:
        """Several transfers to one peer open one link between them."""
        waiting = self._opening.get(peer.worker)
        if waiting is None or waiting[0] != peer:
            task = self._scope.start(self._open(peer), name=f"open link to {peer.worker}")
            waiting = self._opening[peer.worker] = (peer, task)
            task.add_done_callback(lambda _: self._opened(waiting))
        return await asyncio.shield(waiting[1])

    def _opened(self, opening: tuple[WorkerRef, asyncio.Task[Link]]) -> None:
        """Also where whoever waited was cancelled: the next one must not find how this one ended."""
        if self._opening.get(opening[0].worker) is opening:
            del self._opening[opening[0].worker]

    async def _open(self, peer: WorkerRef) -> Link:
        await self._make_room()
        try:
            async with asyncio.timeout(self._limits.open_timeout_s):
                link = await self._connect_best(peer)
        except (TimeoutError, DeadlineExceeded):
            # A control call's deadline is not the request's: above this room it would end the request.
            self._counters.incidents["link_failed"] += 1
            message = f"no link to {peer.worker} opened within its deadlines"
            raise TransferFailed(message=message, reason=Reason.TRANSFER_TIMEOUT) from None
        except BatonError:
            self._counters.incidents["link_failed"] += 1
            raise
        old = self._links.get(peer.worker)
        self._links[peer.worker] = link
        if old is not None:
            await old.kill(f"superseded by {link.pair}")
        self._counters.incidents["link_opened"] += 1
        _LOG.info("link_opened", peer=peer.worker, channel=link.pair.channel, passed_over=link.passed_over)
        return link

    async def _connect_best(self, peer: WorkerRef) -> Link:
        """Over the best channel that both ends can open. What the last candidate raises is the answer."""
        *better, last = self._channels.candidates(peer)
        for factory in better:
            try:
                return await self._connect(peer, factory)
            except (Mismatch, TransferFailed) as error:
                if error.reason is Reason.TRANSFER_TIMEOUT:  # silent, not unfit
                    raise
                self._channels.pass_over(peer, factory.name, error.message)
                self._counters.incidents["channel_passed_over"] += 1
        return await self._connect(peer, last)

    async def _connect(self, receiver: WorkerRef, factory: ChannelFactory) -> Link:
        await self._make_room_for(factory)
        pair = Pair(sender=self._me, receiver=receiver, nonce=self._next_nonce(), channel=factory.name)
        peer = self._peers.at(pair.receiver)
        met = None
        for tries_left in reversed(range(self._limits.control_tries)):
            try:
                met = await peer.meet(pair, self._meet, timeout_s=self._limits.control_timeout_s)
                break
            except DeadlineExceeded:
                if tries_left == 0:
                    raise
        assert met is not None
        store = RemoteStore(peer, pair, control_timeout_s=self._limits.control_timeout_s)
        channel = await factory.open(pair, Side.SENDER, store, timeout_s=self._limits.open_timeout_s)
        return Link(
            pair,
            peer=peer,
            channel=channel,
            digest_key=DigestKey(met.digest_key),
            max_run_bytes=met.max_run_bytes,
            takes_layers=met.takes_layers,
            passed_over=self._channels.passed_over(receiver),
            limits=self._limits,
            counters=self._counters,
            scope=self._scope,
            clock=self._clock,
        )

    async def _make_room(self) -> None:
        await self._evict_beyond(self._limits.max_links, list(self._links.values()))

    async def _make_room_for(self, factory: ChannelFactory) -> None:
        """Some channels cost more than others."""
        if factory.max_pairs is not None:
            same = [link for link in self._links.values() if link.pair.channel == factory.name]
            await self._evict_beyond(factory.max_pairs, same)

    async def _evict_beyond(self, most: int, links: Sequence[Link]) -> None:
        """Room for one more: the least recently used idle link goes. Raises Refused when all are in use."""
        if len(links) < most:
            return
        idle = [link for link in links if link.users == 0]
        if not idle:
            raise Refused(message=f"all {most} links are in use", reason=Reason.LOAD_SHED, retry_after_s=1.0)
        self._counters.incidents["link_evicted"] += 1
        await self._drop(min(idle, key=lambda link: link.used_at), "least recently used")

    async def _drop(self, link: Link, reason: str) -> None:
        if self._links.get(link.pair.receiver.worker) is link:
            del self._links[link.pair.receiver.worker]
        await link.kill(reason)

    def _next_nonce(self) -> int:
        """Grows within an epoch, so that a late word of an older pair is recognised; random in its low half."""
        sequence = (self._last_nonce >> NONCE_RANDOM_BITS) + 1
        self._last_nonce = (sequence << NONCE_RANDOM_BITS) | self._entropy.bits(NONCE_RANDOM_BITS)
        return self._last_nonce
