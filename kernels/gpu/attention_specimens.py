"""The attention kernels in shapes that serve, with the tiles that the table gives each architecture."""

from collections.abc import Iterator
from dataclasses import dataclass

import triton

from kernels.gpu.attention_decode import decode_kernel
from kernels.gpu.attention_extend import extend_kernel
from kernels.gpu.specimen import Specimen
from kernels.gpu.tuned import Tiles, tiles_of

POINTERS = {1: "*i8", 2: "*bf16", 4: "*fp32"}
INTEGERS = ("tables_X", "tiles_J6", "spans_W2", "total_1")
NUMBERS = ("q_stride", "page_stride", "scale_page_stride", "layer", "num_kv_heads", "window", "num_used")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """`element_bytes` of pages: 1 for numbers with scales, `is_float` ones or integers, 2 for bf16, 4 for fp32."""

    operator: str
    dim: int = 128
    element_bytes: int = 2
    is_float: bool = False
    has_window: bool = False
    has_softcap: bool = False


SHAPES = (
    Shape(operator="attention_decode"),
    Shape(operator="attention_decode", dim=80, element_bytes=1, has_window=True, has_softcap=True),
    Shape(operator="attention_decode", element_bytes=1, is_float=True),
    Shape(operator="attention_extend"),
    Shape(operator="attention_extend", dim=256, has_window=True, has_softcap=True),
    Shape(operator="attention_exact_decode"),
    Shape(operator="attention_exact_extend"),
)
"""What continuous integration compiles: every branch once, and the commonest shape of each kernel."""

MORE_SHAPES = tuple(
    Shape(operator=operator, dim=dim, element_bytes=element_bytes)
    for operator in ("attention_decode", "attention_extend", "attention_exact_decode", "attention_exact_extend")
    for dim in (64, 96, 128, 256)
    for element_bytes in (1, 2, 4)
)
"""The table, whole: minutes."""


def specimens(architecture: int, *, is_whole: bool = False) -> Iterator[Specimen]:
    """Of every shape."""
    for shape in (*SHAPES, *(MORE_SHAPES if is_whole else ())):
        padded_dim = triton.next_power_of_2(shape.dim)
        yield _specimen(shape, padded_dim, tiles_of(architecture, shape.operator, padded_dim, shape.element_bytes))


def _specimen(shape: Shape, padded_dim: int, own: Tiles) -> Specimen:
    is_decode = shape.operator.endswith("decode")
    kernel = decode_kernel if is_decode else extend_kernel
    vectors = "*fp32" if shape.element_bytes == 4 else "*bf16"
    types = {
        "out_THD": vectors,
        "q_THD": vectors,
        "sums_WKUD": "*fp32",
        "stats_WKU2": "*fp32",
        "kv": "*u8" if shape.is_float else POINTERS[shape.element_bytes],
        "scales": "*fp32" if shape.element_bytes == 1 else POINTERS[shape.element_bytes],
        **dict.fromkeys(INTEGERS, "*i32"),
        **dict.fromkeys(NUMBERS, "i32"),
        **dict.fromkeys(("factor", "softcap", "softcap_factor"), "fp32"),
    }
    constants = {
        "GROUP": 4,
        "HAS_WINDOW": shape.has_window,
        "HAS_SOFTCAP": shape.has_softcap,
        "IS_QUANTIZED": shape.element_bytes == 1,
        "SLOTS": 16,
        "DIM": shape.dim,
        "SPAN": own.span if is_decode or "exact" in shape.operator else 0,
        "M": own.queries,
        "N": own.keys,
        "D": padded_dim,
    }
    names = kernel.arg_names
    options = "".join((" window" * shape.has_window, " softcap" * shape.has_softcap))
    mode = " fp8" * shape.is_float + " exact" * ("exact" in shape.operator)
    return Specimen(
        kernel=kernel,
        label=f"{shape.dim} x {shape.element_bytes} B, {own.queries} x {own.keys}{mode}{options}",
        types={name: kind for name, kind in types.items() if name in names},
        constants={name: value for name, value in constants.items() if name in names},
        num_warps=own.num_warps,
        num_stages=own.num_stages,
        has_fused_products=False,
        divisible=frozenset({"page_stride", "scale_page_stride"}),
    )
