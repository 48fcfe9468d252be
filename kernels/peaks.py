"""What every row of logits is asked: is it finite, and which value is the largest. Bound by its bytes: each read once.

Legend: R rows, V vocabulary.
"""

import torch
from torch import Tensor

from kernels.cpu.native_peaks import row_peaks
from kernels.dispatch import Backend, backend, native


def find_peaks(logits_RV: Tensor) -> tuple[Tensor | None, Tensor]:
    """largest_R, int64, the lowest index on a tie, or None where no operator finds it on the way; is_finite_R.

    A row that is not finite has any index.
    """
    library = native() if backend(logits_RV) is Backend.CPU else None
    if library is not None and logits_RV.dtype is torch.float32 and logits_RV.is_contiguous():
        return row_peaks(library, logits_RV)
    # A sum is finite where every term is: one pass instead of three over a row per token.
    return None, torch.isfinite(logits_RV.sum(dim=1))
