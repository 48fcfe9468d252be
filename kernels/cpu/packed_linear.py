"""Linear layers on the CPU whose rows do not depend on each other. The room's docstring says why and where measured."""

import torch
from torch import Tensor
from torch.nn import functional

MIN_PACKED_ROWS = 2  # Measured: oneDNN computes a single row of 2,560 channels in another order than it computes more.
UNPACKED_ROWS = 64  # Measured: MKL computes few rows in another order: up to 3 (AMD), 10 (Intel, AVX-512), 49 (AVX2).


def can_pack(weight_OC: Tensor) -> bool:
    """Whether oneDNN can hold this weight in its own layout."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch has no types here
    is_supported = has_onednn and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    return is_supported and weight_OC.dtype is torch.float32


def pack(weight_OC: Tensor) -> Tensor:
    """The weight in oneDNN's layout, opaque to torch: as large as before, not aliased."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OC.contiguous(), None)
    return packed


def linear(x_TC: Tensor, packed: Tensor, bias_O: Tensor | None) -> Tensor:
    """x W^T + b with a packed weight."""
    num_rows = x_TC.shape[0]
    rows_TC = _with_rows(x_TC.contiguous(), max(num_rows, MIN_PACKED_ROWS))
    y_TO: Tensor = torch.ops.mkldnn._linear_pointwise(rows_TC, packed, bias_O, "none", [], "")
    return y_TO[:num_rows]


def linear_unpacked(x_TC: Tensor, weight_OC: Tensor, bias_O: Tensor | None) -> Tensor:
    """x W^T + b where packing is not possible: other float types, builds without oneDNN.

    In fp32 rows are independent of each other on one thread, and nearly so on more; bf16 rows depend on their number.
    """
    num_rows = x_TC.shape[0]
    multiple = UNPACKED_ROWS if x_TC.dtype is torch.float32 else 1
    rows_TC = _with_rows(x_TC, -(-num_rows // multiple) * multiple)
    return functional.linear(rows_TC, weight_OC, bias_O)[:num_rows]


def _with_rows(x_TC: Tensor, num_rows: int) -> Tensor:
    """x with rows of zeros below it, or x itself when it has enough."""
    missing = num_rows - x_TC.shape[0]
    return functional.pad(x_TC, (0, 0, 0, missing)) if missing else x_TC
