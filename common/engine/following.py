"""Rows whose token the step before draws: from there to this step's inputs on the device, never through the host."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.core.step import StepRow
from common.engine.host_copy import to_device


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """What a step drew, at least one id, on the device. Row r's first draw is `ids_S[places[r]]`, if it has a place."""

    ids_S: Tensor
    places: Sequence[int | None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Following:
    """`ids_N` are the tokens at `places_N` of a forward's tokens. On the device."""

    places_N: Tensor
    ids_N: Tensor

    def write(self, tokens_T: Tensor) -> None:
        """Put the ids where stand-ins are."""
        tokens_T.index_copy_(0, self.places_N, self.ids_N)


def following(rows: Sequence[StepRow], last: Draws | None, *, vocab_size: int) -> Following | None:
    """For rows in forward order, of which those of one token come first; None where no row follows.

    A row whose predecessor failed gets any token: nobody is told what becomes of it. What a draw from logits that are
    not finite gave is kept within the vocabulary, for no kernel would notice.
    """
    pairs = [(place, row.follows) for place, row in enumerate(rows) if row.follows is not None]
    if not pairs:
        return None
    assert last is not None, "a row follows a step that was never launched"
    sources = [last.places[follows] or 0 for _place, follows in pairs]
    device = last.ids_S.device
    indexes_2N = to_device(torch.tensor([[place for place, _ in pairs], sources]), device)
    ids_N = last.ids_S.index_select(0, indexes_2N[1]).clamp(0, vocab_size - 1)
    return Following(places_N=indexes_2N[0], ids_N=ids_N)
