"""The bytes of pages, behind one protocol: a tensor in production, plain memory in simulations."""

from collections.abc import Sequence
from typing import Protocol

from common.core.ids import PageId
from common.kv.layout import PageLayout


class PageStorage(Protocol):
    """Bytes by page id; whether a page may be touched is the pool's business. Writer: the step loop.

    A buffer of n pages is n x layout.page_bytes bytes, contiguous, in the order of `pages`.
    """

    @property
    def layout(self) -> PageLayout: ...

    @property
    def num_pages(self) -> int: ...

    def gather(self, pages: Sequence[PageId], out: memoryview) -> None:
        """Copy pages into `out`, which has exactly their size."""
        ...

    def scatter(self, pages: Sequence[PageId], data: memoryview) -> None:
        """Copy `data`, which has exactly their size, into pages."""
        ...

    def copy(self, source: PageId, destination: PageId) -> None:
        """Copy one page onto another: copy-on-write."""
        ...

    def zero(self, page: PageId) -> None:
        """Fill a page with zero bytes."""
        ...


def check_buffer(layout: PageLayout, pages: Sequence[PageId], buffer: memoryview) -> None:
    """Assert that `buffer` has exactly the bytes of `pages`: sizes are agreed before, so a difference is a bug."""
    expected = len(pages) * layout.page_bytes
    assert buffer.nbytes == expected, f"{buffer.nbytes} bytes for {len(pages)} pages of {layout.page_bytes}"
