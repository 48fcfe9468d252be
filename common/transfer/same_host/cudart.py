"""The few calls of the CUDA runtime that share device memory between processes. Not run: needs a GPU.

Plain C through ctypes: torch's own sharing pickles, and its allocator hands out parts of larger allocations. What is
allocated here is shared whole, at offset 0.
"""

import ctypes
import ctypes.util
from pathlib import Path
from typing import Protocol

from common.core.errors import Reason, TransferFailed

IPC_HANDLE_BYTES = 64
BUS_ID_BYTES = 64
LAZY_PEER_ACCESS = 1
NON_BLOCKING = 1
ANY_DIRECTION = 4
"""cudaMemcpyDefault: the runtime tells from the addresses."""


MAPS = Path("/proc/self/maps")


class DeviceRuntime(Protocol):
    """Device memory that two processes can map. Every call raises TransferFailed; `copy` blocks, off the event loop."""

    @property
    def bus_id(self) -> bytes:
        """Names the device to every process of the host, whatever number it has there."""
        ...

    @property
    def device(self) -> int:
        """Its number in this process."""
        ...

    def allocate(self, num_bytes: int) -> int: ...

    def free(self, address: int) -> None: ...

    def export(self, address: int) -> bytes: ...

    def open(self, handle: bytes) -> int: ...

    def close(self, address: int) -> None: ...

    def copy(self, into: int, source: int, num_bytes: int) -> None:
        """Returns once the bytes are there, for every process that maps them."""
        ...

    def write(self, into: int, data: memoryview) -> None:
        """`copy` from memory of the host, which is writable."""
        ...

    def read(self, out: memoryview, source: int) -> None:
        """`copy` into memory of the host."""
        ...


def loaded_library(maps: str) -> str | None:
    """The CUDA runtime that this process has loaded already, by the lines of its map: torch brings its own, where no
    search would find it."""
    paths = (line.split(maxsplit=5)[5] for line in maps.splitlines() if "/libcudart" in line)
    return next(paths, None)


class _Handle(ctypes.Structure):
    """cudaIpcMemHandle_t: passed by value."""

    _fields_ = (("reserved", ctypes.c_char * IPC_HANDLE_BYTES),)


class CudaRuntime:
    """One device, through libcudart, with a stream of its own that waits for nobody else's work."""

    def __init__(self, device: int, library: str | None = None) -> None:
        """Raises TransferFailed where there is no runtime or no such device."""
        name = library or loaded_library(MAPS.read_text()) or ctypes.util.find_library("cudart")
        if name is None:
            raise _failed("the CUDA runtime is not installed")
        self._cuda = ctypes.CDLL(name)
        self._cuda.cudaIpcOpenMemHandle.argtypes = (ctypes.POINTER(ctypes.c_void_p), _Handle, ctypes.c_uint)
        self._cuda.cudaGetErrorString.restype = ctypes.c_char_p
        self.device = device
        self._enter()
        bus_id = ctypes.create_string_buffer(BUS_ID_BYTES)
        self._check("cudaDeviceGetPCIBusId", self._cuda.cudaDeviceGetPCIBusId(bus_id, BUS_ID_BYTES, device))
        self.bus_id = bus_id.value
        self._stream = ctypes.c_void_p()
        made = self._cuda.cudaStreamCreateWithFlags(ctypes.byref(self._stream), NON_BLOCKING)
        self._check("cudaStreamCreateWithFlags", made)

    def allocate(self, num_bytes: int) -> int:
        self._enter()
        address = ctypes.c_void_p()
        self._check("cudaMalloc", self._cuda.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(num_bytes)))
        return _address(address)

    def free(self, address: int) -> None:
        self._enter()
        self._check("cudaFree", self._cuda.cudaFree(ctypes.c_void_p(address)))

    def export(self, address: int) -> bytes:
        self._enter()
        handle = _Handle()
        got = self._cuda.cudaIpcGetMemHandle(ctypes.byref(handle), ctypes.c_void_p(address))
        self._check("cudaIpcGetMemHandle", got)
        return ctypes.string_at(ctypes.addressof(handle), IPC_HANDLE_BYTES)

    def open(self, handle: bytes) -> int:
        self._enter()
        address = ctypes.c_void_p()
        shared = _Handle.from_buffer_copy(handle)
        opened = self._cuda.cudaIpcOpenMemHandle(ctypes.byref(address), shared, LAZY_PEER_ACCESS)
        self._check("cudaIpcOpenMemHandle", opened)
        return _address(address)

    def close(self, address: int) -> None:
        self._enter()
        self._check("cudaIpcCloseMemHandle", self._cuda.cudaIpcCloseMemHandle(ctypes.c_void_p(address)))

    def copy(self, into: int, source: int, num_bytes: int) -> None:
        self._enter()
        size = ctypes.c_size_t(num_bytes)
        begun = self._cuda.cudaMemcpyAsync(
            ctypes.c_void_p(into), ctypes.c_void_p(source), size, ANY_DIRECTION, self._stream
        )
        self._check("cudaMemcpyAsync", begun)
        self._check("cudaStreamSynchronize", self._cuda.cudaStreamSynchronize(self._stream))

    def write(self, into: int, data: memoryview) -> None:
        self.copy(into, _host_address(data), len(data))

    def read(self, out: memoryview, source: int) -> None:
        self.copy(_host_address(out), source, len(out))

    def _enter(self) -> None:
        """The current device belongs to the thread, and calls come from several."""
        self._check("cudaSetDevice", self._cuda.cudaSetDevice(self.device))

    def _check(self, call: str, status: int) -> None:
        if status != 0:
            raise _failed(f"{call}: {self._cuda.cudaGetErrorString(status).decode()}")


def _host_address(data: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(data))


def _address(pointer: ctypes.c_void_p) -> int:
    assert pointer.value is not None, "the runtime gave no address"
    return pointer.value


def _failed(message: str) -> TransferFailed:
    return TransferFailed(message=message, reason=Reason.CHANNEL_BROKEN)
