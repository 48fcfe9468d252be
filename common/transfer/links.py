"""The sending ends of a worker: one live link per peer incarnation, opened when first needed."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from common.core.aftermath import again
from common.core.clock import Clock
from common.core.errors import BatonError, DeadlineExceeded, Reason, Refused, TransferFailed
from common.core.ids import WorkerId, WorkerRef
from common.observe.logging import get_log
from common.transfer.channel import ChannelFactory
from common.transfer.counters import TransferCounters
from common.transfer.limits import TransferLimits
from common.transfer.link import Link
from common.transfer.opening import Opener
from common.transfer.scope import TaskScope

_LOG = get_log("transfer")


class LinkTable:
    """Writer: the event loop. Holds at most `limits.max_links`; beyond, the least recently used idle link is closed."""

    def __init__(
        self,
        opener: Opener,
        *,
        limits: TransferLimits,
        counters: TransferCounters,
        scope: TaskScope,
        clock: Clock,
    ) -> None:
        self._opener = opener
        self._limits = limits
        self._counters = counters
        self._scope = scope
        self._clock = clock
        self._links: dict[WorkerId, Link] = {}
        self._opening: dict[WorkerId, tuple[WorkerRef, asyncio.Task[Link]]] = {}

    def __len__(self) -> int:
        return len(self._links)

    def channels(self) -> Counter[str]:
        """Open links by what carries them."""
        return Counter(link.pair.channel for link in self._links.values())

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
        """Gives a held link back. It stays open for the next transfer, unless a better channel is worth a try now."""
        assert link.users > 0, f"{link.pair} given back twice"
        link.users -= 1
        if link.users == 0 and self._is_lesser(link) and not self._scope.is_closed:
            # At once: nobody may hold it any more.
            del self._links[link.pair.receiver.worker]
            self._scope.spawn(self._improve(link), name=f"improve {link.pair}")

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
        try:
            return await asyncio.shield(waiting[1])
        except BatonError as error:
            # Each waiter's own: the task's leads to the frames of all of them, see `outlast`.
            raise again(error) from None

    def _opened(self, opening: tuple[WorkerRef, asyncio.Task[Link]]) -> None:
        """Also where whoever waited was cancelled: the next one must not find how this one ended."""
        if self._opening.get(opening[0].worker) is opening:
            del self._opening[opening[0].worker]

    async def _open(self, peer: WorkerRef) -> Link:
        await self._make_room()
        try:
            async with asyncio.timeout(self._limits.open_timeout_s):
                link = await self._opener.open(peer, self._make_room_for)
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

    def _is_lesser(self, link: Link) -> bool:
        """Whether a channel that was passed over may open by now."""
        is_known = self._links.get(link.pair.receiver.worker) is link and link.is_live
        return is_known and self._opener.plan(link.pair.receiver)[0][0].name != link.pair.channel

    async def _improve(self, link: Link) -> None:
        """Between two hand-overs, so that none waits for the try; one that comes amid waits for this opening."""
        await link.kill("a better channel is worth a try")
        try:
            better = await self._open_once(link.pair.receiver)
        except BatonError:
            # Counted where it failed; the next hand-over asks for itself.
            return
        if better.pair.channel != link.pair.channel:
            self._counters.incidents["link_improved"] += 1

    async def _make_room(self) -> None:
        await self._evict_beyond(self._limits.max_links, list(self._links.values()), "links")

    async def _make_room_for(self, factory: ChannelFactory) -> None:
        """Some channels cost more than others, and openings under way cost as much."""
        if factory.max_pairs is not None:
            same = [link for link in self._links.values() if link.pair.channel == factory.name]
            num_others = self._opener.under_way[factory.name] - 1  # one of them is the caller's
            await self._evict_beyond(factory.max_pairs, same, f"{factory.name} links", num_others)

    async def _evict_beyond(self, most: int, links: Sequence[Link], what: str, num_coming: int = 0) -> None:
        """Room for one more: the least recently used idle link goes. Raises Refused when all are in use."""
        if len(links) + num_coming < most:
            return
        idle = [link for link in links if link.users == 0]
        if not idle:
            raise Refused(message=f"all {most} {what} are in use", reason=Reason.LOAD_SHED, retry_after_s=1.0)
        self._counters.incidents["link_evicted"] += 1
        await self._drop(min(idle, key=lambda link: link.used_at), "least recently used")

    async def _drop(self, link: Link, reason: str) -> None:
        if self._links.get(link.pair.receiver.worker) is link:
            del self._links[link.pair.receiver.worker]
        await link.kill(reason)
