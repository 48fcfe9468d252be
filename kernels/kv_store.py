"""Write new keys and values into the slots of their pages. Bound by bytes.

Legend: T tokens, K key-value heads, D head dim, P pages, L layers, 2 key and value, S slots per page.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.quantized_pages import is_quantized, parts, quantize


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slots:
    """Where the tokens of a step are stored: slot `offsets_T` of `pages_T`, int64. Whoever plans the step vouches that
    the pages exist.
    """

    pages_T: Tensor
    offsets_T: Tensor


def slot_rows(kv_PL2KSD: Tensor, pages_T: Tensor, offsets_T: Tensor) -> Tensor:
    """rows_2TK of layer 0: the index of every (key or value, token, head) vector among all vectors of `kv_PL2KSD`.

    Made once per step. Raises IndexError for a page that does not exist: torch would wrap a negative one.
    """
    num_pages, num_layers, _, num_heads, num_slots, _ = kv_PL2KSD.shape
    if int(pages_T.min()) < 0 or int(pages_T.max()) >= num_pages:
        raise IndexError(f"pages {int(pages_T.min())} to {int(pages_T.max())} of {num_pages}")
    parts_21 = torch.arange(2, device=pages_T.device)[:, None]
    heads_K = torch.arange(num_heads, device=pages_T.device)
    first_2T = (pages_T * num_layers * 2 + parts_21) * num_heads
    return (first_2T[..., None] + heads_K) * num_slots + offsets_T[:, None]


def kv_store(kv_PL2KSD: Tensor, layer: int, rows_2TK: Tensor, k_TKD: Tensor, v_TKD: Tensor) -> None:
    """Store keys and values of one layer. `kv_PL2KSD` is contiguous, `rows_2TK` comes from `slot_rows`."""
    _, _, _, num_heads, num_slots, head_dim = kv_PL2KSD.shape
    keys_TK, values_TK = rows_2TK + layer * 2 * num_heads * num_slots
    if is_quantized(kv_PL2KSD):
        _store_quantized(kv_PL2KSD, keys_TK, k_TKD)
        _store_quantized(kv_PL2KSD, values_TK, v_TKD)
        return
    vectors_XD = kv_PL2KSD.view(-1, head_dim)
    vectors_XD[keys_TK] = k_TKD
    vectors_XD[values_TK] = v_TKD


def _store_quantized(kv_PL2KSD: Tensor, rows_TK: Tensor, x_TKD: Tensor) -> None:
    num_slots = kv_PL2KSD.shape[4]
    numbers_XSD, scales_XS = parts(kv_PL2KSD.view(-1, num_slots * kv_PL2KSD.shape[5]), num_slots)
    chunks_TK, slots_TK = rows_TK // num_slots, rows_TK % num_slots
    numbers_XSD[chunks_TK, slots_TK], scales_XS[chunks_TK, slots_TK] = quantize(x_TKD, kv_PL2KSD.dtype)
