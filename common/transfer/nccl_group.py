"""The part of the NCCL channel that touches torch: makes communicators, and moves frames on a stream of their own.

Not run: needs two GPUs, or one that NCCL believes to be two; tests/gpu/nccl_pair.py is what would be run.

A frame of device memory is sent where it lies. One of host memory passes a buffer on the device, made at the first such
frame and kept: pinned staging makes that copy asynchronous, plain memory does not. The stream belongs to the pair, so a
peer that stalls holds up nobody else's work, and `synchronize` waits for this frame alone.
"""

import asyncio
from datetime import timedelta
from typing import Any

import torch
import torch.distributed

from common.core.errors import StartupError
from common.kv.span import DeviceSpan
from common.transfer.gloo_store import StoreBridge
from common.transfer.nccl import Communicator, Frame
from common.transfer.nccl_environment import prepare_environment
from common.transfer.rendezvous import RendezvousStore

NUM_RANKS = 2


class NcclMaker:
    """Makes communicators for one device. Raises StartupError where torch or the machine has no NCCL."""

    def __init__(self, device: int, *, address: str = "127.0.0.1", timeout_s: float = 5.0) -> None:
        """`address` is where this worker's data plane is; `timeout_s` the longest opening."""
        if not torch.cuda.is_available() or not hasattr(torch.distributed, "ProcessGroupNCCL"):
            raise StartupError(message="transfer.channel nccl needs a GPU and a torch that is built with NCCL")
        self._device = torch.device("cuda", device)
        self.overruled = prepare_environment(address, timeout_s)
        """Variables that were set to something else than this process can live with."""

    def __call__(
        self, rank: int, store: RendezvousStore, loop: asyncio.AbstractEventLoop, *, timeout_s: float
    ) -> Communicator:
        torch.cuda.set_device(self._device)
        bridge = StoreBridge(store, loop, prefix="nccl", timeout_s=timeout_s)
        # The driver's number for the whole device: other processes on it make it an estimate.
        before, _ = torch.cuda.mem_get_info(self._device)
        group = _make_group(bridge, rank, self._device, timeout_s)
        after, _ = torch.cuda.mem_get_info(self._device)
        return NcclCommunicator(group, rank, self._device, num_bytes=max(0, before - after))


class NcclCommunicator:
    """Owner of calls: the pair's thread. `abort` may come from any other."""

    def __init__(self, group: Any, rank: int, device: torch.device, *, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self._group = group
        self._peer = 1 - rank
        self._device = device
        self._stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._bounce: torch.Tensor | None = None
        self._is_aborted = False

    def send(self, data: Frame) -> None:
        with torch.cuda.stream(self._stream):
            if isinstance(data, DeviceSpan):
                frame = torch.as_tensor(data, device=self._device)
            else:
                frame = self._room(len(data))
                frame.copy_(torch.frombuffer(data, dtype=torch.uint8), non_blocking=True)
            self._group.send([frame], self._peer, 0).wait()  # bounded: queues on the stream, does not block
        self._finish()

    def receive(self, out: Frame) -> None:
        with torch.cuda.stream(self._stream):
            frame = torch.as_tensor(out, device=self._device) if isinstance(out, DeviceSpan) else self._room(len(out))
            self._group.recv([frame], self._peer, 0).wait()  # bounded: queues on the stream, does not block
            if isinstance(out, memoryview):
                torch.frombuffer(out, dtype=torch.uint8).copy_(frame, non_blocking=True)
        self._finish()

    def abort(self) -> None:
        self._is_aborted = True
        self._group.abort()

    def _finish(self) -> None:
        """Until the frame is through. An abort ends the wait too, and then nothing is known about the bytes."""
        self._stream.synchronize()
        if self._is_aborted:
            raise RuntimeError("the communicator was aborted")

    def _room(self, num_bytes: int) -> torch.Tensor:
        if self._bounce is None or len(self._bounce) < num_bytes:
            self._bounce = torch.empty(num_bytes, dtype=torch.uint8, device=self._device)
        return self._bounce[:num_bytes]


def _make_group(store: StoreBridge, rank: int, device: torch.device, timeout_s: float) -> Any:
    """A group of two ranks without a default group, connected before it is used."""
    make: Any = torch.distributed.ProcessGroupNCCL  # absent from builds without CUDA
    options = make.Options(is_high_priority_stream=False)
    options._timeout = timedelta(seconds=timeout_s)
    group = make(store, rank, NUM_RANKS, options)
    # Now, while the opening has a deadline, and not inside the first frame.
    group.eager_connect_single_device(device)
    return group
