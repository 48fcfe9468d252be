"""Rotary position embedding, applied in place. Bound by bytes: one read, one write of q and k."""

from torch import Tensor


def rotary_(x_THD: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> None:
    """Turn channel pairs (i, i + D/2) of every head of `x_THD` by the token's angle i, in place; E = D/2.

    x may be strided as long as the last axis is contiguous: queries and keys are turned in one call, inside the output
    of the fused projection.
    """
    half = x_THD.shape[-1] // 2
    left_THE, right_THE = x_THD[..., :half], x_THD[..., half:]
    cos_T1E, sin_T1E = cos_TE[:, None], sin_TE[:, None]
    turned_THE = left_THE * cos_T1E - right_THE * sin_T1E
    right_THE.mul_(cos_T1E).add_(left_THE * sin_T1E)
    left_THE.copy_(turned_THE)
