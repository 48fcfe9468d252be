"""Attention with capped scores in plain torch: what scaled_dot_product_attention cannot do.

Legend: B rows, H query heads, K key-value heads, T queries, M keys, D head dim.
"""

import torch
from torch import Tensor


def capped_attention(
    q_BHTD: Tensor, k_BKMD: Tensor, v_BKMD: Tensor, mask: Tensor, *, scale: float, softcap: float
) -> Tensor:
    """softmax(softcap * tanh(q k^T scale / softcap) + mask) v in fp32, (B, H, T, D) in the type of q."""
    group = q_BHTD.shape[1] // k_BKMD.shape[1]
    k_BHMD, v_BHMD = (part.float().repeat_interleave(group, dim=1) for part in (k_BKMD, v_BKMD))
    scores_BHTM = softcap * torch.tanh(q_BHTD.float() @ k_BHMD.transpose(2, 3) * (scale / softcap))
    return ((scores_BHTM + mask.float()).softmax(dim=-1) @ v_BHMD).to(q_BHTD.dtype)
