"""A channel of device memory behind the face of one for the host's, so that one suite asks both."""

from dataclasses import dataclass

from common.kv.span import DeviceSpan
from common.transfer.channel import Channel, Side
from common.transfer.messages import HostFacts, Pair
from common.transfer.rendezvous import RendezvousStore
from common.transfer.same_host.device import DeviceReceivingEnd, DeviceSendingEnd
from tests.transfer.fake_card import Card, FakeRuntime, card_factory


class DeviceFrames:
    """ChannelFactory. Frames are sent from the card's memory, and read from slots that the receiver lends."""

    name = "cuda_ipc"
    max_pairs: int | None = None

    def __init__(self, card: Card) -> None:
        self._card = card
        self._factory = card_factory(card)

    def misfit(self, there: HostFacts | None) -> str:
        return self._factory.misfit(there)

    async def open(self, pair: Pair, side: Side, store: RendezvousStore, *, timeout_s: float) -> Channel:
        return DeviceFramesEnd(await self._factory.open(pair, side, store, timeout_s=timeout_s), self._card)


@dataclass
class DeviceFramesEnd:
    """One end."""

    end: Channel
    card: Card

    async def send(self, frame: int, data: memoryview, *, timeout_s: float) -> None:
        assert isinstance(self.end, DeviceSendingEnd)
        runtime = FakeRuntime(self.card)
        span = DeviceSpan(address=runtime.allocate(len(data)), num_bytes=len(data), device=0)
        try:
            runtime.write(span.address, data)
            await self.end.send_device(frame, span, timeout_s=timeout_s)
        finally:
            runtime.free(span.address)  # whoever read it on would find nothing, and say so

    async def receive(self, frame: int, out: memoryview, *, timeout_s: float) -> None:
        assert isinstance(self.end, DeviceReceivingEnd)
        # Receives may be posted ahead of their frames, more of them than there are slots.
        berth = await self.end.reserve(timeout_s=timeout_s)
        try:
            await berth.receive(frame, len(out), timeout_s=timeout_s)
            assert isinstance(berth.view, DeviceSpan)
            FakeRuntime(self.card).read(out, berth.view.address)
        finally:
            berth.release()

    async def close(self) -> None:
        await self.end.close()
