"""Page bytes of the simulated executor: plain memory, no torch."""

from collections.abc import Sequence

from common.core.ids import PageId
from common.kv.layout import PageLayout
from common.kv.storage import check_buffer

SLOT_BYTES = 16
"""Bytes of one slot: what the simulated executor writes per token."""


def sim_layout(*, page_size: int = 16, model_digest: bytes = b"sim") -> PageLayout:
    """A layout whose token takes SLOT_BYTES: one layer, one head, key and value of half a slot each."""
    return PageLayout(
        num_layers=1,
        num_kv_heads=1,
        head_dim=SLOT_BYTES // 2,
        page_size=page_size,
        dtype="sim",
        model_digest=model_digest,
    )


class SimStorage:
    """PageStorage in one bytearray. A page is its slots in order, SLOT_BYTES each. Writer: the step loop."""

    def __init__(self, layout: PageLayout, num_pages: int) -> None:
        assert layout.token_bytes == SLOT_BYTES, f"a simulated token takes {SLOT_BYTES} bytes, not {layout.token_bytes}"
        self.layout = layout
        self.num_pages = num_pages
        self._bytes = memoryview(bytearray(num_pages * layout.page_bytes))

    def page(self, page: PageId) -> memoryview:
        """A page's bytes, writable in place."""
        assert 0 <= page < self.num_pages, f"page {page} of {self.num_pages}"
        return self._bytes[page * self.layout.page_bytes : (page + 1) * self.layout.page_bytes]

    def gather(self, pages: Sequence[PageId], out: memoryview) -> None:
        check_buffer(self.layout, pages, out)
        for index, page in enumerate(pages):
            out[index * self.layout.page_bytes : (index + 1) * self.layout.page_bytes] = self.page(page)

    def scatter(self, pages: Sequence[PageId], data: memoryview) -> None:
        check_buffer(self.layout, pages, data)
        for index, page in enumerate(pages):
            self.page(page)[:] = data[index * self.layout.page_bytes : (index + 1) * self.layout.page_bytes]

    def copy(self, source: PageId, destination: PageId) -> None:
        self.page(destination)[:] = self.page(source)

    def zero(self, page: PageId) -> None:
        self.page(page)[:] = bytes(self.layout.page_bytes)
