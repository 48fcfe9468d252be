"""Channels that carry a GPU's memory as it is, and channels whose frames are made at the other end."""

from typing import Protocol, runtime_checkable

from common.kv.span import DeviceSpan, Span


class Slot(Protocol):
    """Memory of the other end, to be filled by this one, sent once as a whole, and given back, on the event loop."""

    @property
    def view(self) -> Span:
        """Mapped until `give_back`, whatever becomes of the pair."""
        ...

    def give_back(self) -> None:
        """Nothing that was launched writes or reads it any more. Unsent, it goes to another frame."""
        ...


@runtime_checkable
class DeviceChannel(Protocol):
    """A channel that also carries device memory as it is: the rules are those of Channel.

    Who holds a channel asks `isinstance(channel, DeviceChannel)`; what is not one gets frames of host memory alone.
    Gathering must be over, or ordered before on the stream of the call, when `send_device` begins.
    """

    async def send_device(self, frame: int, data: DeviceSpan, *, timeout_s: float) -> None: ...

    async def receive_device(self, frame: int, out: DeviceSpan, *, timeout_s: float) -> None: ...


@runtime_checkable
class SlotChannel(Protocol):
    """A sending end whose frames may be made where the other end reads them. To send exactly such a slot's view copies
    nothing."""

    def lend_slot(self, num_bytes: int) -> Slot | None:
        """None while there is none to spare, and where this process could not write it as its own memory. Any thread;
        never waits."""
        ...
