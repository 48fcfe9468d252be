"""Attention of the 8B shape (32 query heads over 8 of 128) and a few others, over pages in random order.

Legend: T tokens, H query heads, K key-value heads, D head dim, P pages, L layers, 2 key and value, S slots per page.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from kernels import reference
from kernels.attention_form import AttentionForm
from kernels.bench.case import Case, Planned, Run, relative_error
from kernels.gpu.attention import attend
from kernels.gpu.tuned import Chooser, tiles
from kernels.paged_rows import FEW_TOKENS, PagedRows, paged_rows
from kernels.quantized_pages import LARGEST, SCALE_BYTES, parts

PAGE_SIZE = 16
CHECKED_TOKENS = 32
"""Of a long row: the oracle holds a score in fp64 per query head and key."""

CACHE_BYTES = 256 * 2**20
"""Small contexts are kept in so many layers that no cache holds all."""

SEED = 20261121


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Rows: tokens already read, and new ones. `kv_dtype` None: that of the queries."""

    rows: tuple[tuple[int, int], ...]
    query_heads: int = 32
    key_heads: int = 8
    dim: int = 128
    dtype: torch.dtype = torch.bfloat16
    kv_dtype: torch.dtype | None = None
    window: int | None = None
    is_exact: bool = False

    @property
    def num_tokens(self) -> int:
        return sum(count for _, count in self.rows)

    @property
    def vector_bytes(self) -> int:
        """Of a key or a value in its page."""
        stored = self.kv_dtype or self.dtype
        return self.dim * stored.itemsize + (SCALE_BYTES if stored in LARGEST else 0)

    def keys_read(self) -> int:
        """Of all rows, each once."""
        return sum(start + count - self._first(start) for start, count in self.rows)

    def pairs(self) -> int:
        """Of a query token and a key it sees."""
        return sum(
            position + 1 - self._first(position)
            for start, count in self.rows
            for position in range(start, start + count)
        )

    def num_bytes(self) -> int:
        """Keys and values that any query sees, queries and results."""
        outside = 2 * self.num_tokens * self.query_heads * self.dim * self.dtype.itemsize
        return self.keys_read() * self.key_heads * 2 * self.vector_bytes + outside

    def flops(self) -> int:
        """Two products of D per pair and query head."""
        return 4 * self.dim * self.query_heads * self.pairs()

    def _first(self, position: int) -> int:
        return 0 if self.window is None else max(0, position - self.window + 1)

    def small(self) -> "Shape":
        """The same in miniature, for the interpreter."""
        rows = tuple((start % 50, min(count, FEW_TOKENS + 3)) for start, count in self.rows[:2])
        return replace(self, rows=rows, query_heads=self.query_heads // self.key_heads, key_heads=1)


class Scene:
    """Tensors of a shape on a device, and the operator over them."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        torch.manual_seed(SEED)
        self.shape = shape
        self.form = AttentionForm(scale=shape.dim**-0.5, window=shape.window)
        counts = [-(-(start + count) // PAGE_SIZE) for start, count in shape.rows]
        num_pages = sum(counts)
        pages = torch.randperm(num_pages).tolist()
        self.tables = [pages[first:end] for first, end in pairwise(accumulate(counts, initial=0))]
        layer_bytes = num_pages * 2 * shape.key_heads * PAGE_SIZE * shape.vector_bytes
        self.num_layers = 1 if device.type == "cpu" else min(64, -(-CACHE_BYTES // layer_bytes))
        self.q_THD = _normal((shape.num_tokens, shape.query_heads, shape.dim), shape.dtype, device)
        self.kv_PL2KSD = self._pages((num_pages, self.num_layers, 2, shape.key_heads, PAGE_SIZE), device)
        self.rows: PagedRows = paged_rows(
            self.tables,
            [start for start, _ in shape.rows],
            [count for _, count in shape.rows],
            self.kv_PL2KSD,
            is_exact=shape.is_exact,
        )

    def _pages(self, leading: tuple[int, ...], device: torch.device) -> Tensor:
        dtype = self.shape.kv_dtype or self.shape.dtype
        if dtype not in LARGEST:
            return _normal((*leading, self.shape.dim), dtype, device)
        shape = (*leading, self.shape.vector_bytes)
        pages = _normal(shape, torch.float32, device).mul_(30).clamp_(-127, 127).to(dtype)
        _, scales_XS = parts(pages.view(-1, PAGE_SIZE * self.shape.vector_bytes), PAGE_SIZE)
        scales_XS.copy_(torch.rand(scales_XS.shape, device=device) / 64)
        return pages

    def attend(self, turn: int = 0, choose: Chooser = tiles) -> Tensor:
        return attend(self.q_THD, self.kv_PL2KSD, turn % self.num_layers, self.rows, self.form, choose)

    def error(self, choose: Chooser = tiles) -> float:
        """Of every row's first and last tokens."""
        out_THD = self.attend(choose=choose)
        actual, expected = [], []
        firsts = accumulate((count for _, count in self.shape.rows), initial=0)
        for table, (start, count), first in zip(self.tables, self.shape.rows, firsts, strict=False):
            for offset in {0, max(0, count - CHECKED_TOKENS)}:
                end = min(offset + CHECKED_TOKENS, count)
                pages = table[: -(-(start + end) // PAGE_SIZE)]
                q_THD = self.q_THD[first + offset : first + end]
                actual.append(out_THD[first + offset : first + end])
                expected.append(reference.attention(q_THD, self.kv_PL2KSD, 0, pages, start + offset, self.form))
        return relative_error(torch.cat(actual), torch.cat(expected))

    def rival(self, backend: SDPBackend) -> Run:
        """torch's own over contiguous keys and values, a copy for each query head. For one row from 0 on."""
        q_1HTD = self.q_THD.transpose(0, 1)[None].contiguous()
        k_1HTD, v_1HTD = torch.randn(2, *q_1HTD.shape, device=q_1HTD.device).to(q_1HTD.dtype)

        def run(_: int) -> None:
            with sdpa_kernel(backend):
                functional.scaled_dot_product_attention(q_1HTD, k_1HTD, v_1HTD, is_causal=True, scale=self.form.scale)

        return run


def _normal(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device).normal_()


def make(name: str, shape: Shape, device: torch.device, *, is_small: bool) -> Case:
    """A case of this shape; whole prompts also by torch's operators."""
    if is_small:
        shape = shape.small()
    scene = Scene(shape, device)
    rivals = {}
    if device.type == "cuda" and len(shape.rows) == 1 and shape.rows[0][0] == 0 and not shape.window:
        rivals = {
            "SDPA flash": scene.rival(SDPBackend.FLASH_ATTENTION),
            "SDPA cuDNN": scene.rival(SDPBackend.CUDNN_ATTENTION),
        }
    return Case(
        name=name,
        num_bytes=shape.num_bytes(),
        flops=shape.flops(),
        tolerance=1e-2,
        error=scene.error,
        run=scene.attend,
        rivals=rivals,
    )


def decode(lengths: Sequence[int]) -> Shape:
    """One new token per context of so many, itself included."""
    return Shape(rows=tuple((length - 1, 1) for length in lengths))


RAGGED = (17, 131_072, 300, 2_000, 1, 9_000, 40_000, 300) * 4

SHAPES = {
    "attention_decode 64 x 4k": decode([4096] * 64),
    "attention_decode 64 x 4k exact": replace(decode([4096] * 64), is_exact=True),
    "attention_decode 64 x 4k int8": replace(decode([4096] * 64), kv_dtype=torch.int8),
    "attention_decode 64 x 4k fp8": replace(decode([4096] * 64), kv_dtype=torch.float8_e4m3fn),
    "attention_decode 64 x 4k 40 over 8 of 80": replace(decode([4096] * 64), query_heads=40, dim=80),
    "attention_decode 64 x 1k": decode([1024] * 64),
    "attention_decode 1 x 128k": decode([131_072]),
    "attention_decode 1 x 128k exact": replace(decode([131_072]), is_exact=True),
    "attention_decode 1 x 4k": decode([4096]),
    "attention_decode 32 ragged to 128k": decode(RAGGED),
    "attention_decode 8 x 32k window 4k": replace(decode([32_768] * 8), window=4096),
    "attention_decode verify 8 of 16 x 4k": Shape(rows=((4088, 8),) * 16),
    "attention_extend 8k": Shape(rows=((0, 8192),)),
    "attention_extend 8k exact": Shape(rows=((0, 8192),), is_exact=True),
    "attention_extend 8k 32 over 8 of 64": Shape(rows=((0, 8192),), dim=64),
    "attention_extend 8k 16 over 8 of 256": Shape(rows=((0, 8192),), query_heads=16, dim=256),
    "attention_extend 8k window 1k": Shape(rows=((0, 8192),), window=1024),
    "attention_extend 2k after 30k": Shape(rows=((30_720, 2048),)),
    "attention_extend 8k int8": Shape(rows=((0, 8192),), kv_dtype=torch.int8),
    "attention_extend 8k fp8": Shape(rows=((0, 8192),), kv_dtype=torch.float8_e4m3fn),
    "attention_extend 8 x 1k ragged": Shape(
        rows=tuple((0, count) for count in (1, 100, 700, 900, 1024, 1500, 1800, 2167))
    ),
}

CASES = tuple(Planned(name=name, make=partial(make, name, shape)) for name, shape in SHAPES.items())
