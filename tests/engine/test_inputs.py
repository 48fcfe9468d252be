"""A step's rows become tensors: order, positions, slots, wanted logits."""

import pytest
import torch

from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.request import TokenSampling
from common.core.step import Sample, StepRow
from common.engine.inputs import in_forward_order, ragged_tokens
from kernels.kv_store import slot_rows

PAGES, LAYERS, HEADS, SLOTS, DIM = 8, 2, 3, 4, 2
KV = torch.zeros(PAGES, LAYERS, 2, HEADS, SLOTS, DIM)
SAMPLE = Sample(seed=0, position=0, sampling=TokenSampling(temperature=0.0))


def row(tokens: list[int], start: int, pages: list[int], draws: bool = True) -> StepRow:
    return StepRow(
        sequence=SequenceId(RequestId("r")),
        tokens=tuple(TokenId(token) for token in tokens),
        start=start,
        pages=tuple(PageId(page) for page in pages),
        samples=(SAMPLE,) if draws else (),
    )


def test_decodes_come_first_by_length_then_extends_as_they_came() -> None:
    rows = [row([1, 2], 0, [0]), row([3], 9, [1, 2, 3]), row([4, 5, 6], 0, [4]), row([7], 1, [5])]
    assert in_forward_order(rows) == [3, 1, 0, 2]


def test_tokens_positions_and_wanted_rows_lie_end_to_end() -> None:
    rows = [row([7], 1, [5]), row([3], 9, [1, 2, 3]), row([1, 2], 0, [0], draws=False), row([4, 5, 6], 2, [4, 6])]
    tokens = ragged_tokens(rows, KV)
    assert tokens.tokens_T.tolist() == [7, 3, 1, 2, 4, 5, 6]
    assert tokens.positions_T.tolist() == [1, 9, 0, 1, 2, 3, 4]
    assert tokens.wanted.places_R.tolist() == [0, 1, 6]


def test_slot_rows_name_the_vectors_of_a_tokens_slot() -> None:
    """Token at position 9 of pages (1, 2, 3), four slots each: page 3, offset 1."""
    tokens = ragged_tokens([row([3], 9, [1, 2, 3])], KV)
    slot_rows_2TK = slot_rows(KV, tokens.pages_T, tokens.positions_T % SLOTS)
    marked = torch.zeros_like(KV)
    marked.view(-1, DIM)[slot_rows_2TK.flatten()] = 1
    expected = torch.zeros_like(KV)
    expected[3, 0, :, :, 1] = 1
    assert torch.equal(marked, expected)


def test_pages_reserved_ahead_of_the_context_are_welcome() -> None:
    assert len(ragged_tokens([row([3], 1, [1, 2, 3, 4, 5])], KV).tokens_T) == 1


@pytest.mark.parametrize(
    "bad",
    [row([], 0, [0]), row([1], 4, [0]), row([1], 0, [PAGES]), row([1, 2], 0, [-1])],
    ids=["empty", "short", "beyond", "negative"],
)
def test_a_row_that_cannot_be_computed_is_refused(bad: StepRow) -> None:
    with pytest.raises((IndexError, ValueError)):
        ragged_tokens([bad], KV)
