"""A GPU's memory that is the host's at the same address, and what is done there done by the processor at once."""

import ctypes

from common.kv.digest import DigestKey, digest_pages
from common.kv.span import DeviceSpan


class HostPageDevice:
    """PageDevice. `num_digests` counts calls, `num_copies` what came out to the host, `num_finished` gathers that were
    waited for before their memory went."""

    def __init__(self) -> None:
        self.num_digests = 0
        self.num_copies = 0
        self.num_finished = 0
        self.num_keys = 0
        self._buffers: list[ctypes.Array[ctypes.c_char]] = []

    def make_buffer(self, num_bytes: int) -> DeviceSpan:
        self._buffers.append(ctypes.create_string_buffer(num_bytes))
        return DeviceSpan(address=ctypes.addressof(self._buffers[-1]), num_bytes=num_bytes, device=0)

    def digests(self, data: DeviceSpan, page_bytes: int, key: DigestKey, *, first_index: int) -> bytes:
        self.num_digests += 1
        return b"".join(digest_pages(memoryview(read_span(data)), page_bytes, key, first_index=first_index))

    def make_keys(self, page_bytes: int, key: DigestKey) -> None:
        self.num_keys += 1

    def finish_lift(self, out: DeviceSpan) -> None:
        self.num_finished += 1

    def copy_out(self, data: DeviceSpan, out: memoryview) -> None:
        self.num_copies += 1
        out[:] = read_span(data)


def read_span(span: DeviceSpan) -> bytes:
    return ctypes.string_at(span.address, span.num_bytes)


def write_span(span: DeviceSpan, data: bytes) -> None:
    assert len(data) == len(span)
    ctypes.memmove(span.address, data, len(data))
