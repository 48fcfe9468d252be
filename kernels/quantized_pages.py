"""Pages of eight-bit keys and values: each vector of a token and head has a scale of its own.

    value = integer * scale        scale = max |x| / 127        integer = x * 127 / max |x|, rounded to nearest even

A chunk, one (page, layer, key or value, head), holds S x D integers and then S fp32 scales: scales travel with their
page. The tensor of such pages is int8 with D + 4 bytes on its last axis. What a token is stored as depends on that
token alone, so results stay exact in the sense of this room. A vector with NaN or infinity gets such a scale.

Legend: T tokens, K key-value heads, D head dim, P pages, L layers, 2 key and value, S slots per page, X chunks.
"""

import torch
from torch import Tensor

SCALE_BYTES = 4
LARGEST = 127.0


def is_quantized(kv_PL2KSD: Tensor) -> bool:
    """Whether these are pages of eight bits."""
    return kv_PL2KSD.dtype is torch.int8


def channels(kv_PL2KSD: Tensor) -> int:
    """D: numbers in a vector, without the bytes of its scale."""
    return kv_PL2KSD.shape[-1] - (SCALE_BYTES if is_quantized(kv_PL2KSD) else 0)


def quantize(x_TKD: Tensor) -> tuple[Tensor, Tensor]:
    """Integers (int8, T K D) and scales (fp32, T K)."""
    wide_TKD = x_TKD.float()
    largest_TK = wide_TKD.abs().amax(dim=-1)
    factors_TK = torch.where(largest_TK > 0, torch.full_like(largest_TK, LARGEST) / largest_TK, 0.0)
    integers_TKD = (wide_TKD * factors_TK[..., None]).round().nan_to_num().to(torch.int8)
    return integers_TKD, largest_TK / LARGEST


def parts(chunks_XB: Tensor, num_slots: int) -> tuple[Tensor, Tensor]:
    """Views of chunks given as bytes (int8, X and S (D + 4)): integers_XSD and scales_XS."""
    num_integers = chunks_XB.shape[-1] - num_slots * SCALE_BYTES
    num_chunks, num_bytes = chunks_XB.shape
    shape = (num_chunks, num_slots, num_integers // num_slots)
    integers_XSD = chunks_XB.as_strided(shape, (num_bytes, shape[2], 1), chunks_XB.storage_offset())
    return integers_XSD, chunks_XB[:, num_integers:].view(torch.float32)


def dequantized(chunks_XB: Tensor, num_slots: int) -> Tensor:
    """The values of chunks given as bytes, fp32 (X, S, D)."""
    integers_XSD, scales_XS = parts(chunks_XB, num_slots)
    return integers_XSD.float() * scales_XS[..., None]
