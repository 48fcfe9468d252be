"""The receiving ends of a worker: who may send here, under which nonce, with which digest key."""

from collections import Counter, OrderedDict
from typing import TypeVar

from common.core.clock import Clock
from common.core.entropy import Entropy
from common.core.errors import Fenced, Mismatch, Reason, Refused, TransferFailed
from common.core.ids import Epoch, WorkerId, WorkerRef
from common.transfer.channel import ChannelFactory
from common.transfer.counters import TransferCounters
from common.transfer.inbound import InboundTransfers
from common.transfer.inlet import Inlet
from common.transfer.limits import TransferLimits
from common.transfer.menu import ChannelMenu
from common.transfer.messages import Meet, Met, Pair
from common.transfer.scope import TaskScope

Value = TypeVar("Value")

DIGEST_KEY_BITS = 256
MAX_REMEMBERED_PEERS = 4096
"""Chosen: incarnations remembered as over; far above the workers of one cluster."""


class InletTable:
    """One inlet per sending worker. A new epoch, or a newer nonce of the same epoch, closes the older inlet first.

    Writer: the event loop. An inlet that closes fails the transfers it was feeding, at once.
    """

    def __init__(
        self,
        me: WorkerRef,
        *,
        meet: Meet,
        inbound: InboundTransfers,
        max_run_bytes: int,
        channels: ChannelMenu,
        limits: TransferLimits,
        counters: TransferCounters,
        scope: TaskScope,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._me = me
        self._meet = meet
        self._inbound = inbound
        self._max_run_bytes = max_run_bytes
        self._channels = channels
        self._limits = limits
        self._counters = counters
        self._scope = scope
        self._clock = clock
        self._entropy = entropy
        self._inlets: dict[WorkerId, Inlet] = {}
        self._last_nonces: OrderedDict[tuple[WorkerId, Epoch], int] = OrderedDict()
        self._superseded: OrderedDict[tuple[WorkerId, Epoch], bool] = OrderedDict()

    def __len__(self) -> int:
        return len(self._inlets)

    def channels(self) -> Counter[str]:
        """Inlets by what carries them."""
        return Counter(inlet.pair.channel for inlet in self._inlets.values())

    async def meet(self, pair: Pair, meet: Meet) -> Met:
        """Admits a sender. Idempotent per pair.

        Raises Fenced (meant for, or sent by, an incarnation that is over), Mismatch (what differs, readable), Refused.
        """
        self._check_receiver(pair)
        factory = self._check_fit(pair, meet)
        current = self._inlets.get(pair.sender.worker)
        if current is not None and current.pair == pair and not current.is_closed:
            return current.met
        self._check_sender(pair)
        victim = self._evicted(factory, replaced=current)
        if current is not None:
            self._supersede(pair, current)
        _put(self._last_nonces, (pair.sender.worker, pair.sender.epoch), pair.nonce)
        met = Met(digest_key=self._mint_key(), max_run_bytes=self._max_run_bytes, takes_layers=True)
        now = self._clock.monotonic()
        inlet = Inlet(pair, met, factory=factory, scope=self._scope, used_at=now)
        self._inlets[pair.sender.worker] = inlet
        inlet.open(timeout_s=self._limits.open_timeout_s)
        for gone in (victim, current):
            if gone is not None:
                await self._end(gone, f"gave way to {pair}")
        self._counters.incidents["link_opened"] += 1
        return met

    def at(self, pair: Pair) -> Inlet:
        """The inlet of exactly this pair. Raises TransferFailed (CHANNEL_BROKEN) when it is not, or no longer, open."""
        self._check_receiver(pair)
        inlet = self._inlets.get(pair.sender.worker)
        if inlet is None or inlet.pair != pair or inlet.is_closed:
            raise TransferFailed(message=f"{pair} is not open at {self._me.worker}", reason=Reason.CHANNEL_BROKEN)
        inlet.used_at = self._clock.monotonic()
        return inlet

    async def shut(self, pair: Pair, why: str) -> None:
        """Ends one pair. Idempotent; a word about an older pair ends nothing."""
        inlet = self._inlets.get(pair.sender.worker)
        if inlet is not None and inlet.pair == pair:
            del self._inlets[pair.sender.worker]
            await self._end(inlet, why)

    async def drop_peer(self, worker: WorkerId, why: str) -> None:
        """Ends the inlet of `worker`, if any: it left, or the directory knows a newer incarnation."""
        if (inlet := self._inlets.get(worker)) is not None:
            await self.shut(inlet.pair, why)

    async def close(self) -> None:
        for worker in tuple(self._inlets):
            await self.drop_peer(worker, "shutting down")

    def _check_receiver(self, pair: Pair) -> None:
        if (pair.receiver.worker, pair.receiver.epoch) != (self._me.worker, self._me.epoch):
            self._counters.incidents["fenced"] += 1
            raise Fenced(
                message=f"{pair} is meant for {pair.receiver.worker} epoch {pair.receiver.epoch:016x}; "
                f"this is {self._me.worker} epoch {self._me.epoch:016x}"
            )

    def _check_fit(self, pair: Pair, meet: Meet) -> ChannelFactory:
        difference = self._meet.layout.difference(meet.layout)
        if not difference and meet.scheme != self._meet.scheme:
            difference = f"hash and digest scheme {self._meet.scheme.hex()[:16]} here, {meet.scheme.hex()[:16]} there"
        factory = self._channels.at(pair.channel)
        if not difference:
            difference = self._channels.misfit(pair.channel, meet.host)
        if difference or factory is None:
            raise Mismatch(
                message=f"{pair.sender.worker} cannot send pages to {self._me.worker}: {difference}",
                reason=Reason.LAYOUT_MISMATCH,
            )
        return factory

    def _check_sender(self, pair: Pair) -> None:
        sender = (pair.sender.worker, pair.sender.epoch)
        if sender in self._superseded or pair.nonce <= self._last_nonces.get(sender, 0):
            self._counters.incidents["fenced"] += 1
            raise Fenced(message=f"{pair} is over: {pair.sender.worker} has met this worker since")

    def _supersede(self, pair: Pair, current: Inlet) -> None:
        self._counters.incidents["link_superseded"] += 1
        if current.pair.sender.epoch != pair.sender.epoch:
            _put(self._superseded, (pair.sender.worker, current.pair.sender.epoch), True)

    def _evicted(self, factory: ChannelFactory, *, replaced: Inlet | None) -> Inlet | None:
        """Room for one more: nobody, or the least recently used inlet that no transfer needs. `replaced` goes anyway,
        and need not have been of this channel."""
        inlets, most = [inlet for inlet in self._inlets.values() if inlet is not replaced], self._limits.max_links
        same = [inlet for inlet in inlets if inlet.pair.channel == factory.name]
        if factory.max_pairs is not None and len(same) >= factory.max_pairs:
            inlets, most = same, factory.max_pairs
        if len(inlets) < most:
            return None
        idle = [i for i in inlets if i.pending == 0 and not self._inbound.is_fed_by(i.pair)]
        if not idle:
            raise Refused(message=f"all {most} inlets are in use", reason=Reason.LOAD_SHED, retry_after_s=1.0)
        victim = min(idle, key=lambda inlet: inlet.used_at)
        del self._inlets[victim.pair.sender.worker]
        self._counters.incidents["link_evicted"] += 1
        return victim

    async def _end(self, inlet: Inlet, why: str) -> None:
        """What the pair was carrying fails now, not at a deadline; nothing else is touched."""
        self._inbound.fail_pair(inlet.pair, f"{inlet.pair} closed: {why}")
        await inlet.close()

    def _mint_key(self) -> bytes:
        return self._entropy.bits(DIGEST_KEY_BITS).to_bytes(DIGEST_KEY_BITS // 8, "little")


def _put(memory: "OrderedDict[tuple[WorkerId, Epoch], Value]", sender: tuple[WorkerId, Epoch], value: Value) -> None:
    """Remembers a sender, and forgets the oldest beyond the ceiling."""
    memory[sender] = value
    memory.move_to_end(sender)
    if len(memory) > MAX_REMEMBERED_PEERS:
        memory.popitem(last=False)
