"""Communicators without NCCL: two ends of a wire that block as its calls do."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from common.core.errors import TransferFailed
from common.transfer.nccl import Frame, NcclFactory
from common.transfer.rendezvous import RendezvousStore

MIB = 1 << 20


@dataclass
class Wire:
    """Both ends of a faked communicator: a send waits for its receive, an abort frees its own end alone."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    frames: list[bytes] = field(default_factory=list)
    num_taken: int = 0
    num_ready: int = 0


class FakeCommunicator:
    """Blocks like NCCL: for ever, unless it is aborted. A peer that is gone is never noticed."""

    def __init__(self, wire: Wire, *, hangs: bool) -> None:
        self.num_bytes = 60 * MIB
        self._wire = wire
        self._hangs = hangs
        self._is_aborted = False

    def send(self, data: Frame) -> None:
        assert isinstance(data, memoryview)
        with self._wire.changed:
            self._wait(lambda: self._wire.num_ready > len(self._wire.frames))
            self._wire.frames.append(bytes(data))
            self._wire.changed.notify_all()

    def receive(self, out: Frame) -> None:
        assert isinstance(out, memoryview)
        with self._wire.changed:
            self._wire.num_ready += 1
            self._wire.changed.notify_all()
            self._wait(lambda: len(self._wire.frames) > self._wire.num_taken)
            out[:] = self._wire.frames[self._wire.num_taken]
            self._wire.num_taken += 1

    def abort(self) -> None:
        if self._hangs:
            return
        with self._wire.changed:
            self._is_aborted = True
            self._wire.changed.notify_all()

    def _wait(self, is_true: Callable[[], bool]) -> None:
        self._wire.changed.wait_for(lambda: is_true() or self._is_aborted, timeout=20)
        if self._is_aborted or not is_true():
            raise RuntimeError("the communicator was aborted")


class FakeMaker:
    """Joins the two ends through the pair's store, as NCCL's unique id does."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.hangs = hangs
        self.wires: dict[object, Wire] = {}

    def __call__(
        self, rank: int, store: RendezvousStore, loop: asyncio.AbstractEventLoop, *, timeout_s: float
    ) -> FakeCommunicator:
        async def join() -> bytes | None:
            await store.put(f"nccl/rank{rank}", b"")
            return await store.get(f"nccl/rank{1 - rank}", wait_s=timeout_s)

        future = asyncio.run_coroutine_threadsafe(join(), loop)
        try:
            met = future.result(timeout_s)
        except TransferFailed as error:
            raise RuntimeError(str(error)) from None
        finally:
            future.cancel()
        if met is None:
            raise TimeoutError("the other rank did not come")
        # One wire per pair: the receiver's store is one object for both ends of a test.
        wire = self.wires.setdefault(getattr(store, "pair_store", store), Wire())
        return FakeCommunicator(wire, hangs=self.hangs)


def fake_factory(*, max_pairs: int = 8, hangs: bool = False, died: list[int] | None = None) -> NcclFactory:
    return NcclFactory(FakeMaker(hangs=hangs), max_pairs=max_pairs, die=(died if died is not None else []).append)
