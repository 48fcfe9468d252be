"""The data plane between two workers on one GPU, or on two of one host that reach each other's memory.

NOT RUN: needs a GPU. Which ends may try it is decided by what both tell, see `reach`: containers that do not share IPC
and PID namespaces, pods among them, never do.
"""

from common.core.entropy import Entropy
from common.core.errors import Reason, TransferFailed
from common.transfer.channel import Channel, Side
from common.transfer.messages import HostFacts, Pair
from common.transfer.reach import device_memory_misfit
from common.transfer.rendezvous import RendezvousStore
from common.transfer.same_host.cudart import DeviceRuntime
from common.transfer.same_host.device import Retained
from common.transfer.same_host.factory import SameHostFactory


class CudaIpcFactory:
    """Rings as those of `same_host`, their slots in the receiver's device memory. Writer: the event loop."""

    name = "cuda_ipc"

    def __init__(
        self,
        host: HostFacts,
        runtime: DeviceRuntime,
        *,
        num_slots: int,
        slot_bytes: int,
        max_pairs: int,
        entropy: Entropy,
    ) -> None:
        self.max_pairs: int | None = max_pairs
        self.retained = Retained()
        self._host = host
        self._runtime = runtime
        self._max_retained_bytes = max_pairs * num_slots * slot_bytes
        self._rings = SameHostFactory(host, num_slots=num_slots, slot_bytes=slot_bytes, entropy=entropy)

    def misfit(self, there: HostFacts | None) -> str:
        return device_memory_misfit(sender=there, receiver=self._host)

    async def open(self, pair: Pair, side: Side, store: RendezvousStore, *, timeout_s: float) -> Channel:
        if side is Side.RECEIVER and self.retained.num_bytes >= self._max_retained_bytes:
            message = f"{pair}: {self.retained.num_bytes} bytes of device memory are still mapped by earlier senders"
            raise TransferFailed(message=message, reason=Reason.CHANNEL_BROKEN)
        return await self._rings.open_device(pair, side, store, self._runtime, self.retained, timeout_s=timeout_s)
