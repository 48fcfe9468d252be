"""Page bytes of the simulated executor: plain memory, no torch."""

from collections.abc import Sequence

from common.core.ids import PageId
from common.kv.digest import DigestKey
from common.kv.layout import LayerSpan, PageLayout
from common.kv.seal import LateSealing, Seal, Sealing, fits_plainly
from common.kv.sim_layout import SLOT_BYTES
from common.kv.span import Span
from common.kv.storage import check_buffer, part_numbers


class SimStorage:
    """PageStorage in one bytearray. A page is its slots in order, SLOT_BYTES each; what counts as a layer is half of
    them. Writers: see PageStorage."""

    def __init__(self, layout: PageLayout, num_pages: int) -> None:
        assert layout.token_bytes == SLOT_BYTES, f"a simulated token takes {SLOT_BYTES} bytes, not {layout.token_bytes}"
        self.layout = layout
        self.num_pages = num_pages
        self._bytes = memoryview(bytearray(num_pages * layout.page_bytes))

    def page(self, page: PageId) -> memoryview:
        """A page's bytes, writable in place."""
        assert 0 <= page < self.num_pages, f"page {page} of {self.num_pages}"
        return self._bytes[page * self.layout.page_bytes : (page + 1) * self.layout.page_bytes]

    def gather(self, pages: Sequence[PageId], out: Span, layers: LayerSpan | None = None) -> None:
        assert isinstance(out, memoryview), "simulated pages lie in the host's memory"
        check_buffer(self.layout, pages, out, layers)
        self._check(pages)
        size = self.layout.part_bytes(layers)
        for index, part in enumerate(part_numbers(self.layout, pages, layers)):
            out[index * size : (index + 1) * size] = self._bytes[part * size : (part + 1) * size]

    def scatter(self, pages: Sequence[PageId], data: Span, layers: LayerSpan | None = None) -> None:
        assert isinstance(data, memoryview), "simulated pages lie in the host's memory"
        check_buffer(self.layout, pages, data, layers)
        self._check(pages)
        size = self.layout.part_bytes(layers)
        for index, part in enumerate(part_numbers(self.layout, pages, layers)):
            self._bytes[part * size : (part + 1) * size] = data[index * size : (index + 1) * size]

    def gather_sealed(
        self, pages: Sequence[PageId], out: Span, key: DigestKey, *, first_index: int, layers: LayerSpan | None = None
    ) -> Sealing:
        self.gather(pages, out, layers)
        assert isinstance(out, memoryview), "simulated pages lie in the host's memory"
        size = self.layout.part_bytes(layers)
        return LateSealing(key=key, data=out, page_bytes=size, first_index=first_index)

    def scatter_sealed(self, pages: Sequence[PageId], data: Span, seal: Seal, layers: LayerSpan | None = None) -> bool:
        self.scatter(pages, data, layers)
        assert isinstance(data, memoryview), "simulated pages lie in the host's memory"
        return fits_plainly(data, self.layout.part_bytes(layers), seal)

    def _check(self, pages: Sequence[PageId]) -> None:
        assert all(0 <= page < self.num_pages for page in pages), f"pages {pages} of {self.num_pages}"

    def copy(self, source: PageId, destination: PageId) -> None:
        self.page(destination)[:] = self.page(source)

    def zero(self, page: PageId) -> None:
        self.page(page)[:] = bytes(self.layout.page_bytes)
