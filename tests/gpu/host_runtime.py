"""A GPU's memory without a GPU, for two processes: memory of the host that both can map, under CUDA's names."""

import ctypes
import mmap
import os
from dataclasses import dataclass, field

from common.core.errors import Reason, TransferFailed
from common.transfer.same_host.cudart import IPC_HANDLE_BYTES


@dataclass(slots=True)
class HostRuntime:
    """DeviceRuntime. A handle says where the other process finds the memory; it is gone with its last mapping."""

    bus_id: bytes = b"host"
    device: int = 0
    _memory: dict[int, tuple[mmap.mmap, int]] = field(default_factory=dict)
    """By address, with the descriptor."""

    def allocate(self, num_bytes: int) -> int:
        descriptor = os.memfd_create("device-memory", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, num_bytes)
        return self._map(descriptor, num_bytes)

    def free(self, address: int) -> None:
        memory, descriptor = self._memory.pop(address)
        memory.close()
        os.close(descriptor)

    def export(self, address: int) -> bytes:
        memory, descriptor = self._memory[address]
        return f"{os.getpid()}/{descriptor}/{len(memory)}".encode().ljust(IPC_HANDLE_BYTES, b"\0")

    def open(self, handle: bytes) -> int:
        process, theirs, size = handle.rstrip(b"\0").decode().split("/")
        try:
            descriptor = os.open(f"/proc/{process}/fd/{theirs}", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise TransferFailed(message=f"no such memory: {error}", reason=Reason.CHANNEL_BROKEN) from None
        return self._map(descriptor, int(size))

    def close(self, address: int) -> None:
        self.free(address)

    def copy(self, into: int, source: int, num_bytes: int) -> None:
        ctypes.memmove(into, source, num_bytes)

    def write(self, into: int, data: memoryview) -> None:
        ctypes.memmove(into, ctypes.addressof(ctypes.c_char.from_buffer(data)), len(data))

    def read(self, out: memoryview, source: int) -> None:
        ctypes.memmove(ctypes.addressof(ctypes.c_char.from_buffer(out)), source, len(out))

    def _map(self, descriptor: int, num_bytes: int) -> int:
        memory = mmap.mmap(descriptor, num_bytes)
        # The array that asks for the address holds the memory no longer than the question takes.
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._memory[address] = memory, descriptor
        return address
