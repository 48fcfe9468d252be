"""What lies between the projection to queries, keys and values and the attention: norm, rotation, store. One pass.

    q, k = rotate(norm(q)), rotate(norm(k))        norm of each head: x / sqrt(mean(x^2) + epsilon) * weight, or nothing
    queries stay where they are; keys and values go into the slots of their pages

Rotation turns channel pairs (i, i + E) of the leading 2 E channels by the token's angle i; the others pass. All in
fp32, rounded once. Eight-bit pages are kernels/quantized_pages, made of keys as the model's type rounds them: the bits
of the CPU where the keys are the same. Products are not fused with sums here, or they would differ.

Bound by bytes: the projection's result read once and written once. Grid (T, heads / HEADS).

Legend: T tokens, X = H + 2 K heads of the projection, H query heads, K key-value heads, D head dim, E turned pairs,
P pages, L layers, 2 key and value, S slots per page, W elements of a vector with its scale.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.gpu.eight_bits import factor_and_scale, page_scales, page_words, stored
from kernels.gpu.specimen import Specimen
from kernels.kv_store import Slots
from kernels.norm import HeadNorm
from kernels.quantized_pages import channels, is_quantized

TILE = 1024
"""Numbers of one half of the heads that a program holds: 8 a thread."""


@triton.jit(do_not_specialize=["layer", "num_layers"])
def rotary_store_kernel(
    heads,
    norm_weight,
    cos,
    sin,
    kv,
    scales,
    pages,
    offsets,
    row_stride,
    layer,
    num_layers,
    num_slots,
    epsilon,
    H: tl.constexpr,
    K: tl.constexpr,
    D: tl.constexpr,
    E: tl.constexpr,
    HAS_NORM: tl.constexpr,
    HAS_ROPE: tl.constexpr,
    IS_QUANTIZED: tl.constexpr,
    HEADS: tl.constexpr,
    PAIRS: tl.constexpr,
    REST: tl.constexpr,
):
    """PAIRS and REST are E and D - 2 E, rounded up to powers of two; REST is 0 where every channel is turned."""
    token = tl.program_id(0).to(tl.int64)
    head = (tl.program_id(1) * HEADS + tl.arange(0, HEADS))[:, None]
    pair = tl.arange(0, PAIRS)[None, :]
    is_pair = (head < H + 2 * K) & (pair < E)
    is_value = head >= H + K
    own = heads + token * row_stride + head * D
    dtype = heads.dtype.element_ty
    left = tl.load(own + pair, mask=is_pair, other=0.0).to(tl.float32)
    right = tl.load(own + E + pair, mask=is_pair, other=0.0).to(tl.float32)
    if REST > 0:
        other = 2 * E + tl.arange(0, REST)[None, :]
        is_other = (head < H + 2 * K) & (other < D)
        rest = tl.load(own + other, mask=is_other, other=0.0).to(tl.float32)
    if HAS_NORM:
        squares = tl.sum(left * left + right * right, axis=1)
        if REST > 0:
            squares += tl.sum(rest * rest, axis=1)
        root = tl.rsqrt(squares / D + epsilon)[:, None]
        weights = norm_weight + head * D
        left_w = tl.load(weights + pair, mask=is_pair & ~is_value, other=0.0).to(tl.float32)
        right_w = tl.load(weights + E + pair, mask=is_pair & ~is_value, other=0.0).to(tl.float32)
        left = tl.where(is_value, left, left * root * left_w)
        right = tl.where(is_value, right, right * root * right_w)
        if REST > 0:
            rest_w = tl.load(weights + other, mask=is_other & ~is_value, other=0.0).to(tl.float32)
            rest = tl.where(is_value, rest, rest * root * rest_w)
    if HAS_ROPE:
        c = tl.load(cos + token * E + pair, mask=pair < E, other=1.0).to(tl.float32)
        s = tl.load(sin + token * E + pair, mask=pair < E, other=0.0).to(tl.float32)
        turned = left * c - right * s
        right = tl.where(is_value, right, right * c + left * s)
        left = tl.where(is_value, left, turned)
    if HAS_NORM or HAS_ROPE:
        tl.debug_barrier()  # Small tiles are read by more threads than one: nobody may write before all have read.
        is_query = is_pair & (head < H)
        tl.store(own + pair, left.to(dtype), mask=is_query)
        tl.store(own + E + pair, right.to(dtype), mask=is_query)
        if HAS_NORM and REST > 0:
            tl.store(own + other, rest.to(dtype), mask=is_other & (head < H))

    part = tl.where(is_value, 1, 0)
    kv_head = head - H - part * K
    page, slot = tl.load(pages + token), tl.load(offsets + token)
    chunk = ((page * num_layers + layer) * 2 + part) * K + kv_head  # (HEADS, 1), 64 bits
    is_stored = is_pair & (head >= H)
    if IS_QUANTIZED:
        left, right = left.to(dtype).to(tl.float32), right.to(dtype).to(tl.float32)
        largest = tl.max(tl.maximum(tl.abs(left), tl.abs(right)), axis=1)
        num_nans = tl.sum(tl.where(left != left, 1, 0) + tl.where(right != right, 1, 0), axis=1)
        if REST > 0:
            rest = rest.to(dtype).to(tl.float32)
            largest = tl.maximum(largest, tl.max(tl.abs(rest), axis=1))
            num_nans += tl.sum(tl.where(rest != rest, 1, 0), axis=1)
        largest = tl.where(num_nans > 0, float("nan"), largest)[:, None]
        factor, scale = factor_and_scale(largest, kv.dtype.element_ty)
        left, right = stored(left, factor, kv.dtype.element_ty), stored(right, factor, kv.dtype.element_ty)
        if REST > 0:
            rest = stored(rest, factor, kv.dtype.element_ty)
        chunk_bytes = num_slots * (D + 4)
        place = chunk * chunk_bytes + slot * D
        is_row = (head >= H) & (head < H + 2 * K)
        tl.store(scales + (chunk * chunk_bytes + num_slots * D) // 4 + slot, scale, mask=is_row)
    else:
        place = (chunk * num_slots + slot) * D
    tl.store(kv + place + pair, left.to(kv.dtype.element_ty), mask=is_stored)
    tl.store(kv + place + E + pair, right.to(kv.dtype.element_ty), mask=is_stored)
    if REST > 0:
        tl.store(kv + place + other, rest.to(kv.dtype.element_ty), mask=is_other & (head >= H))


def rotary_store(
    qkv_TXD: Tensor,
    kv_PL2KSW: Tensor,
    layer: int,
    slots: Slots,
    *,
    rotation: tuple[Tensor, Tensor] | None = None,
    norm: HeadNorm | None = None,
) -> Tensor:
    """See kernels/rotary_store."""
    pages_T, offsets_T = slots.pages_T, slots.offsets_T
    num_tokens, num_all, dim = qkv_TXD.shape
    _, num_layers, _, num_kv, num_slots, _ = kv_PL2KSW.shape
    num_heads, pairs = num_all - 2 * num_kv, dim // 2 if rotation is None else rotation[0].shape[1]
    assert qkv_TXD.stride()[1:] == (dim, 1), "heads lie end to end"
    assert kv_PL2KSW.is_contiguous(), "pages lie end to end"
    assert channels(kv_PL2KSW) == dim, f"heads of {dim}, pages {kv_PL2KSW.shape}"
    assert num_heads > 0, f"{num_all} heads, {num_kv} of them keys"
    assert dim % 2 == 0, f"an odd head of {dim}"
    assert pages_T.dtype is offsets_T.dtype is torch.int64
    assert pages_T.shape == offsets_T.shape == (num_tokens,)
    assert rotation is None or all(each.is_contiguous() and each.shape == (num_tokens, pairs) for each in rotation)
    assert norm is None or (norm.weight_GD.is_contiguous() and norm.weight_GD.shape == (num_heads + num_kv, dim))
    quantized = is_quantized(kv_PL2KSW)
    assert not quantized or num_slots * dim % 4 == 0, "scales lie at multiples of four bytes"
    if num_tokens:
        constants = _constants(num_heads, num_kv, dim, pairs)
        cos_TE, sin_TE = rotation or (qkv_TXD, qkv_TXD)  # any pointer: nobody follows it
        rotary_store_kernel[(num_tokens, triton.cdiv(num_all, constants["HEADS"]))](
            qkv_TXD,
            qkv_TXD if norm is None else norm.weight_GD,
            cos_TE,
            sin_TE,
            page_words(kv_PL2KSW),
            page_scales(kv_PL2KSW),
            pages_T,
            offsets_T,
            qkv_TXD.stride(0),
            layer,
            num_layers,
            num_slots,
            0.0 if norm is None else norm.epsilon,
            HAS_NORM=norm is not None,
            HAS_ROPE=rotation is not None,
            IS_QUANTIZED=quantized,
            enable_fp_fusion=False,
            **constants,
        )
    return qkv_TXD[:, :num_heads]


def _constants(num_heads: int, num_kv: int, dim: int, pairs: int) -> dict[str, int]:
    tile = triton.next_power_of_2(pairs)
    return {
        "H": num_heads,
        "K": num_kv,
        "D": dim,
        "E": pairs,
        "HEADS": max(1, TILE // tile),
        "PAIRS": tile,
        "REST": triton.next_power_of_2(dim - 2 * pairs) if dim > 2 * pairs else 0,
    }


def _specimen(
    label: str, heads: tuple[int, int, int, int], *, dtype: str = "*bf16", eight: str = "", norm: bool = False
) -> Specimen:
    pointers = dict.fromkeys(("heads", "cos", "sin"), dtype)
    numbers = dict.fromkeys(("row_stride", "layer", "num_layers", "num_slots"), "i32")
    return Specimen(
        kernel=rotary_store_kernel,
        label=label,
        types={
            **pointers,
            **numbers,
            "norm_weight": "*fp32" if norm else dtype,
            "kv": eight or dtype,
            "scales": "*fp32" if eight else dtype,
            "pages": "*i64",
            "offsets": "*i64",
            "epsilon": "fp32",
        },
        constants={**_constants(*heads), "HAS_NORM": norm, "HAS_ROPE": True, "IS_QUANTIZED": bool(eight)},
        has_fused_products=False,
        divisible=frozenset(("row_stride", "num_slots")),
    )


SPECIMENS = (
    _specimen("32 + 2 x 8 of 128", (32, 8, 128, 64)),
    _specimen("32 + 2 x 8 of 128, normed, int8", (32, 8, 128, 64), eight="*i8", norm=True),
    _specimen("32 + 2 x 8 of 128, fp8", (32, 8, 128, 64), eight="*u8"),
    _specimen("16 + 2 x 8 of 256, normed", (16, 8, 256, 128), norm=True),
    _specimen(
        "32 + 2 x 32 of 80, half turned, normed, int8, fp32", (32, 32, 80, 20), dtype="*fp32", eight="*i8", norm=True
    ),
)
