"""Which of a step's tokens somebody reads after the last layer. Of the others only keys and values are wanted there.

Legend: T tokens of a step, R wanted ones.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.attention import AttentionRows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WantedRows:
    """`places_R` are their places among the tokens; `rows` are they as rows for attention, one after the other: None
    where nobody reads any. `is_all`: every token is wanted, and they keep their order."""

    places_R: Tensor
    rows: AttentionRows | None
    is_all: bool

    def of(self, x_T: Tensor) -> Tensor:
        """What the wanted tokens have of what each token has, (R, ...)."""
        return x_T if self.is_all else torch.index_select(x_T, 0, self.places_R)


def all_rows(rows: AttentionRows, num_tokens: int, device: torch.device) -> WantedRows:
    """Every token of these rows."""
    return WantedRows(places_R=torch.arange(num_tokens, device=device), rows=rows, is_all=True)
