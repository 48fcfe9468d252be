"""The attention kernels in shapes that serve, with the tiles that the table gives each architecture.

Continuous integration compiles a covering of them: every pair of a kernel, a head dim, a type, a kind of pages, an
architecture and a kind of mask occurs in one specimen at least (tests/kernels/gpu/test_aot counts them), and decode and
extend of 128 channels in bf16, what serves most, on each architecture. Of the coverings with so few rows this is a
cheap one: masks and floats of eight bits double the time that a row takes. `is_whole` adds the product of all, with
masks and without: each has spilled where the other did not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

import triton

from kernels.gpu.attention_decode import decode_kernel
from kernels.gpu.attention_extend import extend_kernel
from kernels.gpu.specimen import Specimen
from kernels.gpu.tuned import Tiles, tiles_of

INTEGERS = ("tables_X", "tiles_J6", "spans_W2", "total_1")
NUMBERS = ("q_stride", "page_stride", "scale_page_stride", "layer", "num_kv_heads", "window", "num_used")


class Kernel(StrEnum):
    DECODE = "attention_decode"
    EXTEND = "attention_extend"
    EXACT_DECODE = "attention_exact_decode"
    EXACT_EXTEND = "attention_exact_extend"


class Vectors(StrEnum):
    """Type of queries and results."""

    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


class Pages(StrEnum):
    """Type of keys and values: that of the queries, or eight bits with scales."""

    SAME = "same"
    INT8 = "int8"
    FP8 = "fp8"


class Masks(StrEnum):
    """PLAIN: causal. MASKED: a window and a cap of scores as well."""

    PLAIN = "plain"
    MASKED = "masked"


DIMS = (64, 80, 96, 128, 256)
MASKED_SPILL_BYTES = 128
"""Of a thread, with a window and a cap at once. Chosen: tiles are those of the usual, unmasked shapes, which spill
nothing; smaller ones for the rare shape alone would be another column of the table. Compiled: 112 at most, fp32 or in
exact mode, which holds a second sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    kernel: Kernel
    dim: int
    vectors: Vectors
    pages: Pages
    masks: Masks

    @property
    def element_bytes(self) -> int:
        """What tiles are chosen by, as tuned.element_bytes_of says it of tensors."""
        if self.vectors is Vectors.FP32:
            return 4
        return 2 if self.pages is Pages.SAME else 1


# fmt: off
_COVERING = {
    80: (
        (Kernel.DECODE, 128, Vectors.BF16, Pages.SAME, Masks.PLAIN),
        (Kernel.EXTEND, 128, Vectors.BF16, Pages.SAME, Masks.PLAIN),
        (Kernel.EXTEND, 80, Vectors.FP16, Pages.SAME, Masks.MASKED),
        (Kernel.EXTEND, 96, Vectors.BF16, Pages.INT8, Masks.PLAIN),
        (Kernel.EXTEND, 256, Vectors.FP32, Pages.SAME, Masks.PLAIN),
        (Kernel.EXACT_DECODE, 64, Vectors.FP32, Pages.SAME, Masks.MASKED),
        (Kernel.EXACT_EXTEND, 64, Vectors.FP32, Pages.SAME, Masks.PLAIN),
        (Kernel.EXACT_EXTEND, 80, Vectors.BF16, Pages.FP8, Masks.PLAIN),
    ),
    90: (
        (Kernel.DECODE, 128, Vectors.BF16, Pages.SAME, Masks.PLAIN),
        (Kernel.EXTEND, 128, Vectors.BF16, Pages.SAME, Masks.PLAIN),
        (Kernel.DECODE, 96, Vectors.FP16, Pages.FP8, Masks.PLAIN),
        (Kernel.DECODE, 256, Vectors.BF16, Pages.INT8, Masks.MASKED),
        (Kernel.EXTEND, 64, Vectors.BF16, Pages.FP8, Masks.PLAIN),
        (Kernel.EXACT_DECODE, 80, Vectors.FP32, Pages.INT8, Masks.PLAIN),
        (Kernel.EXACT_DECODE, 96, Vectors.FP16, Pages.SAME, Masks.PLAIN),
        (Kernel.EXACT_DECODE, 128, Vectors.FP32, Pages.FP8, Masks.MASKED),
        (Kernel.EXACT_EXTEND, 128, Vectors.FP16, Pages.INT8, Masks.PLAIN),
        (Kernel.EXACT_EXTEND, 256, Vectors.FP16, Pages.SAME, Masks.PLAIN),
    ),
    100: (
        (Kernel.DECODE, 128, Vectors.BF16, Pages.SAME, Masks.PLAIN),
        (Kernel.EXTEND, 128, Vectors.BF16, Pages.SAME, Masks.PLAIN),
        (Kernel.DECODE, 64, Vectors.FP16, Pages.INT8, Masks.PLAIN),
        (Kernel.DECODE, 80, Vectors.FP32, Pages.SAME, Masks.PLAIN),
        (Kernel.EXACT_DECODE, 256, Vectors.BF16, Pages.FP8, Masks.PLAIN),
        (Kernel.EXACT_EXTEND, 96, Vectors.FP32, Pages.SAME, Masks.MASKED),
    ),
}
# fmt: on


def shapes(architecture: int, *, is_whole: bool = False) -> Iterator[Shape]:
    """The covering's share of this architecture, and, where it is whole, the product."""
    rows = list(_COVERING[architecture])
    if is_whole:
        rows += [row for row in product(Kernel, DIMS, Vectors, Pages, Masks) if row not in rows]
    for kernel, dim, vectors, pages, masks in rows:
        yield Shape(kernel=kernel, dim=dim, vectors=vectors, pages=pages, masks=masks)


def specimens(architecture: int, *, is_whole: bool = False) -> Iterator[Specimen]:
    """Of every shape."""
    for shape in shapes(architecture, is_whole=is_whole):
        padded_dim = triton.next_power_of_2(shape.dim)
        own = tiles_of(architecture, shape.kernel, padded_dim, shape.element_bytes)
        yield _specimen(shape, padded_dim, own)


def _specimen(shape: Shape, padded_dim: int, own: Tiles) -> Specimen:
    is_decode = shape.kernel in (Kernel.DECODE, Kernel.EXACT_DECODE)
    is_exact = shape.kernel in (Kernel.EXACT_DECODE, Kernel.EXACT_EXTEND)
    is_masked, is_quantized = shape.masks is Masks.MASKED, shape.pages is not Pages.SAME
    kernel = decode_kernel if is_decode else extend_kernel
    vectors = f"*{shape.vectors}"
    types = {
        "out_THD": vectors,
        "q_THD": vectors,
        "sums_WKUD": "*fp32",
        "stats_WKU2": "*fp32",
        "kv": {Pages.SAME: vectors, Pages.INT8: "*i8", Pages.FP8: "*u8"}[shape.pages],
        "scales": "*fp32" if is_quantized else vectors,
        **dict.fromkeys(INTEGERS, "*i32"),
        **dict.fromkeys(NUMBERS, "i32"),
        **dict.fromkeys(("factor", "softcap", "softcap_factor"), "fp32"),
    }
    constants = {
        "GROUP": 4,
        "HAS_WINDOW": is_masked,
        "HAS_SOFTCAP": is_masked,
        "IS_QUANTIZED": is_quantized,
        "SLOTS": 16,
        "DIM": shape.dim,
        "SPAN": own.span if is_decode or is_exact else 0,
        "M": own.queries,
        "N": own.keys,
        "D": padded_dim,
    }
    names = kernel.arg_names
    mode = " exact" * is_exact + " window softcap" * is_masked
    return Specimen(
        kernel=kernel,
        label=f"{shape.dim} {shape.vectors} over {shape.pages}, {own.queries} x {own.keys}{mode}",
        types={name: kind for name, kind in types.items() if name in names},
        constants={name: value for name, value in constants.items() if name in names},
        num_warps=own.num_warps,
        num_stages=own.num_stages,
        has_fused_products=False,
        divisible=frozenset({"page_stride", "scale_page_stride"}),
        max_spilled_bytes=MASKED_SPILL_BYTES if is_masked else 0,
    )
