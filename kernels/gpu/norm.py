"""The seam of two half layers: what a half layer adds to the residual stream, and the norm the next one begins with.

    stream = stream + scale * post(added)        post: x / sqrt(mean(x^2) + epsilon) * post_weight, where there is one
    normal = stream / sqrt(mean(stream^2) + epsilon) * weight

Sums in fp32; the stream is rounded to its type before it is normalised, so that what is normalised is what is kept.
Weights are of the model's type or wider (a family that multiplies by 1 + w hands over the sum). A row's result does not
depend on T: one program per row, its tile chosen by C alone.

Bound by bytes: per row, C elements of `added` and `stream` read, of `stream` and `normal` written. Grid (T,).
Legend: T tokens, C channels.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.gpu.specimen import Specimen

MAX_TILE = 16_384
"""Channels that a program holds in registers: 32 numbers a thread of 16 warps. Longer rows are read in tiles again."""


@triton.jit
def row_kernel(
    added,
    post,
    stream,
    weight,
    normal,
    num_channels,
    added_stride,
    stream_stride,
    normal_stride,
    scale,
    epsilon,
    HAS_ADDED: tl.constexpr,
    HAS_POST: tl.constexpr,
    HAS_NORMAL: tl.constexpr,
    TILE: tl.constexpr,
):
    """A row that fits into one tile: each number is read once and written once."""
    row = tl.program_id(0).to(tl.int64)
    channels = tl.arange(0, TILE)
    is_in = channels < num_channels
    stream += row * stream_stride
    x = tl.load(stream + channels, mask=is_in, other=0.0).to(tl.float32)
    if HAS_ADDED:
        y = tl.load(added + row * added_stride + channels, mask=is_in, other=0.0).to(tl.float32)
        if HAS_POST:
            root = tl.rsqrt(tl.sum(y * y) / num_channels + epsilon)
            y = y * root * tl.load(post + channels, mask=is_in, other=0.0).to(tl.float32)
        x = (x + scale * y).to(stream.dtype.element_ty).to(tl.float32)
        tl.store(stream + channels, x.to(stream.dtype.element_ty), mask=is_in)
    if HAS_NORMAL:
        root = tl.rsqrt(tl.sum(x * x) / num_channels + epsilon)
        x = x * root * tl.load(weight + channels, mask=is_in, other=0.0).to(tl.float32)
        tl.store(normal + row * normal_stride + channels, x.to(normal.dtype.element_ty), mask=is_in)


@triton.jit
def long_row_kernel(
    added,
    post,
    stream,
    weight,
    normal,
    num_channels,
    added_stride,
    stream_stride,
    normal_stride,
    scale,
    epsilon,
    HAS_ADDED: tl.constexpr,
    HAS_POST: tl.constexpr,
    HAS_NORMAL: tl.constexpr,
    TILE: tl.constexpr,
):
    """The same for a row of several tiles, read once more for each of its norms."""
    row = tl.program_id(0).to(tl.int64)
    added += row * added_stride
    stream += row * stream_stride
    normal += row * normal_stride
    root = 1.0
    if HAS_POST:
        squares = tl.zeros((TILE,), tl.float32)
        for first in range(0, num_channels, TILE):
            channels = first + tl.arange(0, TILE)
            y = tl.load(added + channels, mask=channels < num_channels, other=0.0).to(tl.float32)
            squares += y * y
        root = tl.rsqrt(tl.sum(squares) / num_channels + epsilon)
    squares = tl.zeros((TILE,), tl.float32)
    for first in range(0, num_channels, TILE):
        channels = first + tl.arange(0, TILE)
        is_in = channels < num_channels
        x = tl.load(stream + channels, mask=is_in, other=0.0).to(tl.float32)
        if HAS_ADDED:
            y = tl.load(added + channels, mask=is_in, other=0.0).to(tl.float32)
            if HAS_POST:
                y = y * root * tl.load(post + channels, mask=is_in, other=0.0).to(tl.float32)
            x = (x + scale * y).to(stream.dtype.element_ty).to(tl.float32)
            tl.store(stream + channels, x.to(stream.dtype.element_ty), mask=is_in)
        squares += x * x
    if HAS_NORMAL:
        tl.debug_barrier()  # What one thread stored above another may load below.
        root = tl.rsqrt(tl.sum(squares) / num_channels + epsilon)
        for first in range(0, num_channels, TILE):
            channels = first + tl.arange(0, TILE)
            is_in = channels < num_channels
            x = tl.load(stream + channels, mask=is_in, other=0.0).to(tl.float32)
            x = x * root * tl.load(weight + channels, mask=is_in, other=0.0).to(tl.float32)
            tl.store(normal + channels, x.to(normal.dtype.element_ty), mask=is_in)


def add_norm_(
    stream_TC: Tensor,
    weight_C: Tensor | None,
    epsilon: float,
    *,
    added_TC: Tensor | None = None,
    post_C: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    """(T, C), contiguous: the normalised stream, or the stream itself where `weight_C` is None.

    `stream_TC` is written to. Rows may be strided, channels may not.
    """
    normal_TC = (
        stream_TC if weight_C is None else torch.empty(stream_TC.shape, dtype=stream_TC.dtype, device=stream_TC.device)
    )
    _launch(stream_TC, added_TC, post_C, weight_C, normal_TC, scale, epsilon)
    return normal_TC


def norm_(x_TC: Tensor, weight_C: Tensor, epsilon: float) -> None:
    """Normalise rows where they lie: inside the result of a wider product, say."""
    _launch(x_TC, None, None, weight_C, x_TC, 1.0, epsilon)


def norm(x_TC: Tensor, weight_C: Tensor, epsilon: float) -> Tensor:
    """(T, C), contiguous, and x as it was."""
    normal_TC = torch.empty(x_TC.shape, dtype=x_TC.dtype, device=x_TC.device)
    _launch(x_TC, None, None, weight_C, normal_TC, 1.0, epsilon)
    return normal_TC


def _launch(
    stream_TC: Tensor,
    added_TC: Tensor | None,
    post_C: Tensor | None,
    weight_C: Tensor | None,
    normal_TC: Tensor,
    scale: float,
    epsilon: float,
) -> None:
    num_tokens, num_channels = stream_TC.shape
    rows = [each for each in (stream_TC, added_TC, normal_TC) if each is not None]
    assert all(each.shape == stream_TC.shape and each.stride(1) == 1 for each in rows), (
        "rows of one shape, channels beside each other"
    )
    assert all(each is None or (each.is_contiguous() and each.numel() == num_channels) for each in (post_C, weight_C))
    if not num_tokens:
        return
    tile = min(MAX_TILE, triton.next_power_of_2(num_channels))
    kernel = row_kernel if tile >= num_channels else long_row_kernel
    absent = stream_TC  # any pointer: nobody follows it
    kernel[(num_tokens,)](
        absent if added_TC is None else added_TC,
        absent if post_C is None else post_C,
        stream_TC,
        absent if weight_C is None else weight_C,
        normal_TC,
        num_channels,
        0 if added_TC is None else added_TC.stride(0),
        stream_TC.stride(0),
        normal_TC.stride(0),
        scale,
        epsilon,
        HAS_ADDED=added_TC is not None,
        HAS_POST=post_C is not None,
        HAS_NORMAL=weight_C is not None,
        TILE=tile,
        num_warps=warps(tile),
    )


def warps(tile: int) -> int:
    """Chosen: 32 numbers a thread at most, and at least 16 bytes of them."""
    return max(1, min(16, tile // 256))


def _specimen(
    label: str, tile: int, *, post: bool = False, kernel: object = row_kernel, dtype: str = "*bf16"
) -> Specimen:
    pointers = dict.fromkeys(("added", "stream", "normal"), dtype)
    weights = dict.fromkeys(("post", "weight"), "*fp32" if post else dtype)
    strides = dict.fromkeys(("num_channels", "added_stride", "stream_stride", "normal_stride"), "i32")
    return Specimen(
        kernel=kernel,
        label=label,
        types={**pointers, **weights, **strides, "scale": "fp32", "epsilon": "fp32"},
        constants={"HAS_ADDED": True, "HAS_POST": post, "HAS_NORMAL": True, "TILE": tile},
        num_warps=warps(tile),
        divisible=frozenset(strides),
    )


SPECIMENS = (
    _specimen("C 4096", 4096),
    _specimen("C 3584, gemma", 4096, post=True),
    _specimen("C 16384, gemma", MAX_TILE, post=True),
    _specimen("C 18432, gemma", MAX_TILE, post=True, kernel=long_row_kernel),
    _specimen("C 1152 fp32", 2048, dtype="*fp32"),
)
