"""Which layers of which pages of one request are spoken for, or have landed: a page is whole when all of them are."""

from collections.abc import Iterator

from common.transfer.messages import PageRun


class LayerClaims:
    """A bit per (page, layer). Grows with what was added, never with what a peer merely states."""

    def __init__(self, num_layers: int) -> None:
        self._num_layers = num_layers
        self._layers: dict[int, int] = {}
        self.num = 0
        """Layers of pages in all: a whole page counts as many as it has."""

    def overlaps(self, run: PageRun) -> bool:
        mask = self._mask(run)
        pages = self._layers if len(self._layers) < run.num_pages else range(run.first_page, run.end)
        return any(run.first_page <= page < run.end and self._layers.get(page, 0) & mask for page in pages)

    def add(self, run: PageRun) -> None:
        """What is there already counts once."""
        self.num += sum(now.bit_count() - before.bit_count() for before, now in self._merge(run))

    def remove(self, run: PageRun) -> None:
        """Undoes `add` of exactly this run."""
        mask = self._mask(run)
        for page in range(run.first_page, run.end):
            assert self._layers[page] & mask == mask, f"{run} was not added"
            self._layers[page] &= ~mask
            if not self._layers[page]:
                del self._layers[page]
        self.num -= run.num_pages * mask.bit_count()

    def clear(self) -> None:
        self._layers.clear()
        self.num = 0

    def _merge(self, run: PageRun) -> Iterator[tuple[int, int]]:
        mask = self._mask(run)
        for page in range(run.first_page, run.end):
            before = self._layers.get(page, 0)
            self._layers[page] = now = before | mask
            yield before, now

    def _mask(self, run: PageRun) -> int:
        first, num = (0, self._num_layers) if run.layers is None else (run.layers.first, run.layers.num)
        return ((1 << num) - 1) << first
