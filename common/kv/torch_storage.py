"""Page bytes as one tensor: what attention reads and writes.

Legend: P pages, L layers, 2 key and value, H key-value heads, S slots per page, D head dim, B bytes of a page.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import torch

from common.core.ids import PageId
from common.kv.cuda_stream import page_streams
from common.kv.device_keys import DeviceKeys
from common.kv.device_memory import listed_on, tensor_of
from common.kv.device_moves import DeviceMoves
from common.kv.digest import DigestKey
from common.kv.layout import LayerSpan, PageLayout
from common.kv.page_streams import PageStreams
from common.kv.seal import LateSealing, MadeSealing, Seal, Sealing, fits_plainly
from common.kv.span import DeviceSpan, Span
from common.kv.storage import check_buffer, part_numbers
from kernels.cpu.huge_pages import huge_tensor
from kernels.cpu.library import loaded_native
from kernels.cpu.native_pages import copy_pages, move_pages
from kernels.dispatch import Backend, backend
from kernels.page_move import gather_pages, scatter_pages

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
    "fp8": torch.float8_e4m3fn,
}


class TorchStorage:
    """PageStorage in `kv_PL2HSD`: page-major, so that a page's bytes are contiguous. Writers: see PageStorage.

    The last axis of eight-bit pages is D + 4 long: kernels/quantized_pages says what lies where. `has_scratch`: behind
    the pages that a pool gives out lies one more, where rows that pad a step write.

    On a GPU a run of pages is gathered into one buffer on the device and copied from there in one piece, on a stream
    that is not the steps' (page_streams); the caller waits for its own buffer alone, and pinned staging makes that copy
    as fast as the bus. To and from the GPU's own memory it is one kernel. None of this was run on a GPU yet.
    """

    def __init__(
        self,
        layout: PageLayout,
        num_pages: int,
        device: str | torch.device = "cpu",
        *,
        has_scratch: bool = False,
        streams: PageStreams | None = None,
    ) -> None:
        assert layout.tensor_parallel == 1, f"{layout.tensor_parallel} ranks hold this layout, not one tensor"
        self.layout = layout
        self.num_pages = num_pages
        dtype = DTYPES[layout.dtype]
        width = layout.vector_bytes // dtype.itemsize
        self.scratch = PageId(num_pages) if has_scratch else None
        num_places = num_pages + has_scratch
        shape = (num_places, layout.num_layers, 2, layout.num_kv_heads, layout.page_size, width)
        self._bytes_PB = _zero_bytes(num_places, layout.page_bytes, torch.device(device))
        self.kv_PL2HSD = self._bytes_PB.view(dtype).view(shape)
        self.streams = streams or page_streams(self.device)
        """Whoever launches steps says there where each begins and ends."""
        self.keys = DeviceKeys(self.device, self.streams)
        """Of pairs, where pages move within a GPU: for its PageDevice too."""
        self._moves = DeviceMoves(self.device, self.streams, self.keys)
        self._settle()
        self._native = loaded_native()

    def gather(self, pages: Sequence[PageId], out: Span, layers: LayerSpan | None = None) -> None:
        check_buffer(self.layout, pages, out, layers)
        self._check(pages)
        parts_UB, numbers = self._parts(layers), part_numbers(self.layout, pages, layers)
        if not pages:
            return
        if isinstance(out, DeviceSpan):
            self.streams.lift(partial(self._gather_within, parts_UB, numbers, out), out)
            return
        if not self._is_on_host():
            self.streams.take(partial(self._gather_from_device, parts_UB, numbers, out))
            return
        if self._copied(parts_UB, numbers, out, is_scatter=False):
            return
        for start, run_NB in _runs(parts_UB, numbers):
            _rows(out, parts_UB)[start : start + len(run_NB)].copy_(run_NB)

    def scatter(self, pages: Sequence[PageId], data: Span, layers: LayerSpan | None = None) -> None:
        """Without native code a read-only `data` is copied once more on the way: torch views writable memory only."""
        check_buffer(self.layout, pages, data, layers)
        self._check(pages)
        parts_UB, numbers = self._parts(layers), part_numbers(self.layout, pages, layers)
        if not pages:
            return
        if isinstance(data, DeviceSpan):
            self.streams.lower(partial(self._scatter_within, parts_UB, numbers, data))
            return
        if self._is_on_host() and self._copied(parts_UB, numbers, data, is_scatter=True):
            return
        buffer = memoryview(bytearray(data)) if data.readonly else data
        if not self._is_on_host():
            self._scatter_to_device(parts_UB, numbers, buffer)
            return
        for start, run_NB in _runs(parts_UB, numbers):
            run_NB.copy_(_rows(buffer, parts_UB)[start : start + len(run_NB)])

    def gather_sealed(
        self, pages: Sequence[PageId], out: Span, key: DigestKey, *, first_index: int, layers: LayerSpan | None = None
    ) -> Sealing:
        check_buffer(self.layout, pages, out, layers)
        self._check(pages)
        size = self.layout.part_bytes(layers)
        parts_UB, numbers = self._parts(layers), part_numbers(self.layout, pages, layers)
        if isinstance(out, DeviceSpan):
            return self._moves.gather(parts_UB, numbers, out, key, first_index)
        if self._native is not None and self._is_on_host():
            found = self._moved(parts_UB, numbers, out, key, first_index, is_scatter=False)
            return MadeSealing(key=key, digests=found)
        self.gather(pages, out, layers)
        return LateSealing(key=key, data=out, page_bytes=size, first_index=first_index)

    def scatter_sealed(self, pages: Sequence[PageId], data: Span, seal: Seal, layers: LayerSpan | None = None) -> bool:
        check_buffer(self.layout, pages, data, layers)
        self._check(pages)
        parts_UB, numbers = self._parts(layers), part_numbers(self.layout, pages, layers)
        if isinstance(data, DeviceSpan):
            return self._moves.scatter(parts_UB, numbers, data, seal)
        if self._native is not None and self._is_on_host():
            return seal.fits(self._moved(parts_UB, numbers, data, seal.key, seal.first_index, is_scatter=True))
        if not fits_plainly(data, parts_UB.shape[1], seal):
            return False
        self.scatter(pages, data, layers)
        return True

    def copy(self, source: PageId, destination: PageId) -> None:
        """Within a step."""
        self._page(destination).copy_(self._page(source))

    def zero(self, page: PageId) -> None:
        self._page(page).zero_()
        self._settle()

    @property
    def device(self) -> torch.device:
        return self._bytes_PB.device

    def _is_on_host(self) -> bool:
        return backend(self._bytes_PB) is Backend.CPU

    def _settle(self) -> None:
        """What was written here, beside a step, comes before moves that begin from now on."""
        self.streams.settle(self.streams.end_step())

    def _gather_from_device(self, parts_UB: torch.Tensor, numbers: Sequence[int], out: memoryview) -> None:
        """Launched, not awaited."""
        staged_NB = torch.empty((len(numbers), parts_UB.shape[1]), dtype=torch.uint8, device=self.device)
        gather_pages(parts_UB, listed_on(self.device, numbers), staged_NB)
        _rows(out, parts_UB).copy_(staged_NB, non_blocking=True)

    def _scatter_to_device(self, parts_UB: torch.Tensor, numbers: Sequence[int], buffer: memoryview) -> None:
        staged_NB: torch.Tensor
        listed_N: torch.Tensor

        def bring() -> None:
            nonlocal staged_NB, listed_N
            listed_N = listed_on(self.device, numbers)
            staged_NB = _rows(buffer, parts_UB).to(self.device, non_blocking=True, copy=True)

        self.streams.put(bring, lambda: scatter_pages(staged_NB, parts_UB, listed_N))

    def _gather_within(self, parts_UB: torch.Tensor, numbers: Sequence[int], out: DeviceSpan) -> None:
        """Launched, not awaited."""
        staged_NB = tensor_of(out, self.device).view(len(numbers), -1)
        gather_pages(parts_UB, listed_on(self.device, numbers), staged_NB)

    def _scatter_within(self, parts_UB: torch.Tensor, numbers: Sequence[int], data: DeviceSpan) -> None:
        staged_NB = tensor_of(data, self.device).view(len(numbers), -1)
        scatter_pages(staged_NB, parts_UB, listed_on(self.device, numbers))

    def _parts(self, layers: LayerSpan | None) -> torch.Tensor:
        """parts_UB: the same bytes cut into parts of pages, in order."""
        return self._bytes_PB.view(-1, self.layout.part_bytes(layers))

    def _copied(self, parts_UB: torch.Tensor, numbers: Sequence[int], buffer: memoryview, *, is_scatter: bool) -> bool:
        """Parts of a host's pages in one native call. False where this process has no native operators."""
        if self._native is None:
            return False
        copy_pages(self._native, parts_UB.data_ptr(), parts_UB.shape[1], numbers, buffer, is_scatter=is_scatter)
        return True

    def _moved(
        self,
        parts_UB: torch.Tensor,
        numbers: Sequence[int],
        buffer: memoryview,
        key: DigestKey,
        first_index: int,
        *,
        is_scatter: bool,
    ) -> bytes:
        """The same with digests of what was copied."""
        assert self._native is not None, "without native code copies and digests are passes of their own"
        keys = key.key_halves(parts_UB.shape[1])
        found_N = move_pages(
            self._native, parts_UB.data_ptr(), numbers, buffer, keys, first_index, is_scatter=is_scatter
        )
        return found_N.astype("<u8").tobytes()

    def _check(self, pages: Sequence[PageId]) -> None:
        if pages:
            first, last = min(pages), max(pages)
            assert 0 <= first <= last < self.num_pages, f"pages {first} to {last} of {self.num_pages}"

    def _page(self, page: PageId) -> torch.Tensor:
        assert 0 <= page < self.num_pages, f"page {page} of {self.num_pages}"
        return self._bytes_PB[page]


def _runs(parts_UB: torch.Tensor, numbers: Sequence[int]) -> Iterator[tuple[int, torch.Tensor]]:
    """Parts that are neighbours in memory as one view each, with their place in the buffer."""
    start = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
            yield start, parts_UB[numbers[start] : numbers[end - 1] + 1]
            start = end


def _rows(buffer: memoryview, parts_UB: torch.Tensor) -> torch.Tensor:
    """A host buffer as rows_NB of the size of these parts, without a copy."""
    return torch.frombuffer(buffer, dtype=torch.uint8).view(-1, parts_UB.shape[1])


def _zero_bytes(num_pages: int, page_bytes: int, device: torch.device) -> torch.Tensor:
    """Zeroed bytes_PB. On a CPU the system hands memory out as it is first touched: a start does not pay for it."""
    if device.type == "cpu":
        return huge_tensor(num_pages * page_bytes).view(num_pages, page_bytes)
    return torch.zeros((num_pages, page_bytes), dtype=torch.uint8, device=device)
