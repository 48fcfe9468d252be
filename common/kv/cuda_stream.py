"""Streams and marks of a GPU. NOT RUN ON A GPU YET: page_streams has the order, proven without one.

A thread's own device is the first one until it says otherwise, and those that digest and land are told nothing: so
whatever is asked of CUDA here is asked within `on_device`. Otherwise a worker on another GPU would open a context on
the first, hundreds of megabytes that are not its own, or launch there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from common.kv.page_streams import Mark, PageStreams, Work, host_streams


@contextmanager
def on_device(device: torch.device) -> Iterator[None]:
    """The calling thread's device, within."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        yield


@dataclass(frozen=True, slots=True, eq=False)
class CudaMark:
    """An event that was recorded."""

    event: torch.cuda.Event
    device: torch.device

    def finish(self) -> None:
        with on_device(self.device):
            self.event.synchronize()


class CudaStream:
    """One stream of one GPU; without a stream, whichever the calling thread computes on."""

    def __init__(self, device: torch.device, stream: torch.cuda.Stream | None = None) -> None:
        self._device = device
        self._stream = stream

    def run(self, work: Work) -> None:
        # Tensors made within belong to this stream: their memory is given to nobody before its work is done.
        with on_device(self._device), torch.cuda.stream(self._current()):
            work()

    def mark(self) -> CudaMark:
        # Blocking: whoever waits sleeps, and leaves its core to the event loop.
        with on_device(self._device):
            event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            event.record(self._current())
        return CudaMark(event, self._device)

    def follow(self, mark: Mark) -> None:
        assert isinstance(mark, CudaMark), f"{mark} is no GPU's"
        with on_device(self._device):
            self._current().wait_event(mark.event)

    def _current(self) -> torch.cuda.Stream:
        return torch.cuda.current_stream(self._device) if self._stream is None else self._stream


def page_streams(device: torch.device) -> PageStreams:
    """Moves and reads on streams of their own, which do not wait for the default stream; on a host, one order."""
    if device.type != "cuda":
        return host_streams()
    moves, reads = torch.cuda.Stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return PageStreams(steps=CudaStream(device), moves=CudaStream(device, moves), reads=CudaStream(device, reads))
