"""Streams and marks of a GPU. NOT RUN ON A GPU YET: page_streams has the order, proven without one."""

from dataclasses import dataclass

import torch

from common.kv.page_streams import Mark, PageStreams, Work, host_streams


@dataclass(frozen=True, slots=True, eq=False)
class CudaMark:
    """An event that was recorded."""

    event: torch.cuda.Event

    def finish(self) -> None:
        self.event.synchronize()


class CudaStream:
    """One stream of one GPU; without a stream, whichever the calling thread computes on."""

    def __init__(self, device: torch.device, stream: torch.cuda.Stream | None = None) -> None:
        self._device = device
        self._stream = stream

    def run(self, work: Work) -> None:
        # Tensors made within belong to this stream: their memory is given to nobody before its work is done.
        with torch.cuda.stream(self._current()):
            work()

    def mark(self) -> CudaMark:
        # Blocking: whoever waits sleeps, and leaves its core to the event loop.
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._current())
        return CudaMark(event)

    def follow(self, mark: Mark) -> None:
        assert isinstance(mark, CudaMark), f"{mark} is no GPU's"
        self._current().wait_event(mark.event)

    def _current(self) -> torch.cuda.Stream:
        return torch.cuda.current_stream(self._device) if self._stream is None else self._stream


def page_streams(device: torch.device) -> PageStreams:
    """Moves and reads on streams of their own, which do not wait for the default stream; on a host, one order."""
    if device.type != "cuda":
        return host_streams()
    moves, reads = torch.cuda.Stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return PageStreams(steps=CudaStream(device), moves=CudaStream(device, moves), reads=CudaStream(device, reads))
