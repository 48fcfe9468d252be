"""Which sizes of decode steps are captured as graphs, and how a step is padded to one of them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.step import StepRow

LARGEST_STEP = 16
"""Chosen: sizes double up to here, then grow by it. A padded row costs its share of the arithmetic but none of the
weights' bytes, so up to some tens of rows it is nearly free; a graph costs its start-up time and its logits."""

LARGEST_SIZE = 256
"""Chosen: beyond it a step computes for longer than its launches take, and is run as it comes."""

_NOBODY = SequenceId(RequestId("padding"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """`sizes` rise. A step of n rows takes the smallest that holds it."""

    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        assert self.sizes == tuple(sorted(set(self.sizes))), f"{self.sizes} do not rise"
        assert not self.sizes or self.sizes[0] > 0

    def choose(self, num_rows: int) -> int | None:
        """The size to pad `num_rows` to; None where none is large enough."""
        assert num_rows > 0
        return next((size for size in self.sizes if size >= num_rows), None)


def buckets_up_to(max_rows: int) -> Buckets:
    """1, 2, 4, 8, 16, 32, 48, ... and `max_rows` itself, or LARGEST_SIZE where that is less."""
    assert max_rows > 0
    last = min(max_rows, LARGEST_SIZE)
    doubling = [2**power for power in range(LARGEST_STEP.bit_length())]
    sizes = {*doubling, *range(2 * LARGEST_STEP, last, LARGEST_STEP), last}
    return Buckets(sizes=tuple(sorted(size for size in sizes if size <= last)))


def can_be_padded(rows: Sequence[StepRow]) -> bool:
    """Whether a step is what graphs are captured for: each row one token, from whose logits something is drawn."""
    return all(len(row.tokens) == 1 and row.samples and not row.targets for row in rows)


def padded(rows: Sequence[StepRow], size: int, scratch: PageId) -> list[StepRow]:
    """`rows`, then rows of one token at position 0 of the `scratch` page, which no sequence has: they write there
    alone, all the same, and attend to nothing else."""
    assert len(rows) <= size
    nothing = StepRow(sequence=_NOBODY, tokens=(TokenId(0),), start=0, pages=(scratch,))
    return [*rows, *[nothing] * (size - len(rows))]
