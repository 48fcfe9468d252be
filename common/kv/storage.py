"""The bytes of pages, behind one protocol: a tensor in production, plain memory in simulations."""

from collections.abc import Sequence
from typing import Protocol

from common.core.ids import PageId
from common.kv.digest import DigestKey
from common.kv.layout import LayerSpan, PageLayout
from common.kv.seal import Seal, Sealing
from common.kv.span import Span


class PageStorage(Protocol):
    """Bytes by page id; whether a page may be touched is the pool's business. Writers: the step loop, and whoever lands
    in pages that the pool counts a writer of.

    A buffer of n pages is n x layout.page_bytes bytes, contiguous, in the order of `pages`; of n pages' `layers`,
    n x layout.part_bytes(layers). Layers are an equal part of a page's (LayerSpan.is_part_of). It lies in the host's
    memory, or, where the pages do, in the GPU's.
    """

    @property
    def layout(self) -> PageLayout: ...

    @property
    def num_pages(self) -> int: ...

    def gather(self, pages: Sequence[PageId], out: Span, layers: LayerSpan | None = None) -> None:
        """Copy pages, or these layers of them, into `out`, which has exactly their size.

        Into a GPU's memory it is only launched: the pages may be given back at once, and `out` has the bytes for
        whoever asks a PageDevice for something of them.
        """
        ...

    def scatter(self, pages: Sequence[PageId], data: Span, layers: LayerSpan | None = None) -> None:
        """Copy `data`, which has exactly their size, into pages, or into these layers of them. Then it is not read any
        more."""
        ...

    def gather_sealed(
        self, pages: Sequence[PageId], out: Span, key: DigestKey, *, first_index: int, layers: LayerSpan | None = None
    ) -> Sealing:
        """As `gather`, with the digests of what goes out, in the same pass where the storage has that. `out` is not
        given back before they are finished. Raises TransferFailed where the device has no memory for it."""
        ...

    def scatter_sealed(self, pages: Sequence[PageId], data: Span, seal: Seal, layers: LayerSpan | None = None) -> bool:
        """As `scatter`; whether all of it is what was sealed. Where not, the pages may have been written: nobody may
        read them. Raises TransferFailed where the device has no memory for it."""
        ...

    def copy(self, source: PageId, destination: PageId) -> None:
        """Copy one page onto another: copy-on-write."""
        ...

    def zero(self, page: PageId) -> None:
        """Fill a page with zero bytes."""
        ...


def check_buffer(layout: PageLayout, pages: Sequence[PageId], buffer: Span, layers: LayerSpan | None = None) -> None:
    """Assert that `buffer` has exactly the bytes of `pages`: sizes are agreed before, so a difference is a bug."""
    assert layers is None or layers.is_part_of(layout.num_layers), f"{layers} are no part of {layout.num_layers}"
    expected = len(pages) * layout.part_bytes(layers)
    assert buffer.nbytes == expected, f"{buffer.nbytes} bytes for {len(pages)} pages of {layout.part_bytes(layers)}"


def part_numbers(layout: PageLayout, pages: Sequence[PageId], layers: LayerSpan | None) -> Sequence[int]:
    """Where parts lie if the pages are cut into parts of this size and counted from the first page's first."""
    if layers is None:
        return pages
    num_parts, part = layout.num_layers // layers.num, layers.first // layers.num
    return [page * num_parts + part for page in pages]
