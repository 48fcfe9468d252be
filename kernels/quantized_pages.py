"""Pages of eight-bit keys and values: each vector of a token and head has a scale of its own.

    value = number * scale      scale = max |x| / LARGEST      number = x * LARGEST / max |x|, to nearest even

Numbers are integers to 127 (int8), or floats to 448 with four bits of exponent and three of fraction (fp8, e4m3): those
keep small channels beside a large one, these are four times finer near the largest. A chunk, one (page, layer, key or
value, head), holds S x D numbers and then S fp32 scales: scales travel with their page, and its digest covers them. The
tensor of such pages has D + 4 bytes on its last axis, and its type names the kind. What a token is stored as depends on
that token alone, so results stay exact in the sense of this room. A vector with NaN or infinity has numbers 0 and such
a scale; one below SMALLEST throughout, too small for a factor in fp32, is stored as zeros.

Legend: T tokens, K key-value heads, D head dim, P pages, L layers, 2 key and value, S slots per page, X chunks.
"""

import torch
from torch import Tensor

SCALE_BYTES = 4
LARGEST = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
"""By type of the pages."""

SMALLEST = 2.0**-100
"""Chosen: 448 / SMALLEST is far from fp32's largest number, and no model's keys come near."""


def is_quantized(kv_PL2KSD: Tensor) -> bool:
    """Whether these are pages of eight bits."""
    return kv_PL2KSD.dtype in LARGEST


def channels(kv_PL2KSD: Tensor) -> int:
    """D: numbers in a vector, without the bytes of its scale."""
    return kv_PL2KSD.shape[-1] - (SCALE_BYTES if is_quantized(kv_PL2KSD) else 0)


def quantize(x_TKD: Tensor, dtype: torch.dtype = torch.int8) -> tuple[Tensor, Tensor]:
    """Numbers (`dtype`, T K D) and scales (fp32, T K)."""
    wide_TKD = x_TKD.float()
    largest_TK = wide_TKD.abs().amax(dim=-1)
    limit_TK = torch.full_like(largest_TK, LARGEST[dtype])
    factors_TK = torch.where(largest_TK >= SMALLEST, limit_TK / largest_TK, 0.0)
    numbers_TKD = (wide_TKD * factors_TK[..., None]).nan_to_num()
    if dtype is torch.int8:
        numbers_TKD = numbers_TKD.round()
    return numbers_TKD.to(dtype), largest_TK / limit_TK


def parts(chunks_XB: Tensor, num_slots: int) -> tuple[Tensor, Tensor]:
    """Views of chunks given as bytes (X and S (D + 4), of the pages' type): numbers_XSD and scales_XS."""
    num_numbers = chunks_XB.shape[-1] - num_slots * SCALE_BYTES
    num_chunks, num_bytes = chunks_XB.shape
    shape = (num_chunks, num_slots, num_numbers // num_slots)
    numbers_XSD = chunks_XB.as_strided(shape, (num_bytes, shape[2], 1), chunks_XB.storage_offset())
    return numbers_XSD, chunks_XB[:, num_numbers:].view(torch.float32)


def dequantized(chunks_XB: Tensor, num_slots: int) -> Tensor:
    """The values of chunks given as bytes, fp32 (X, S, D)."""
    numbers_XSD, scales_XS = parts(chunks_XB, num_slots)
    return numbers_XSD.float() * scales_XS[..., None]
