"""What lies between the products of matrices, at the 8B shape: half-layer seams, gates, rotation with store.

Legend: T tokens, C channels, J inner channels, X heads of the projection, D head dim, E turned pairs.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from kernels import reference
from kernels.bench.case import Case, Planned, relative_error
from kernels.gate import Gate
from kernels.gpu.activation import gate_and_multiply
from kernels.gpu.norm import add_norm_
from kernels.gpu.rotary_store import rotary_store
from kernels.kv_store import Slots
from kernels.norm import HeadNorm
from kernels.quantized_pages import LARGEST, SCALE_BYTES

TOLERANCE = 1e-2
FP8_TOLERANCE = 4e-2
"""Of numbers with four digits: each is off by 1/16 at most, 1/40 in the mean."""
EPSILON = 1e-5
CHANNELS, INNER, QUERY_HEADS, KEY_HEADS, DIM, PAGE_SIZE = 4096, 14_336, 32, 8, 128, 16
LAYERS = 4
"""Of pages, written in turns."""


def half_layer(name: str, tokens: int, device: torch.device, *, is_small: bool) -> Case:
    """Residual add and norm. Each run starts from the stream of the run before: sums grow, the norm does not mind."""
    channels, tokens = (80, 2) if is_small else (CHANNELS, tokens)
    stream_TC, added_TC = _normal((2, tokens, channels), device)
    weight_C = _normal((channels,), device)

    def error() -> float:
        own_TC = stream_TC.clone()
        normal_TC = add_norm_(own_TC, weight_C, EPSILON, added_TC=added_TC)
        wide = (stream_TC.float(), weight_C.float(), added_TC.float())
        expected_TC, expected_normal_TC = reference.add_norm(wide[0], wide[1], EPSILON, added_TC=wide[2])
        return max(relative_error(own_TC, expected_TC), relative_error(normal_TC, expected_normal_TC))

    return Case(
        name=name,
        num_bytes=4 * stream_TC.nbytes,
        flops=0,
        tolerance=TOLERANCE,
        error=error,
        run=lambda _: add_norm_(stream_TC, weight_C, EPSILON, added_TC=added_TC),
    )


def gate(name: str, tokens: int, device: torch.device, *, is_small: bool) -> Case:
    """SiLU."""
    inner, tokens = (80, 2) if is_small else (INNER, tokens)
    gate_up_TI = _normal((tokens, 2 * inner), device)
    return Case(
        name=name,
        num_bytes=gate_up_TI.nbytes * 3 // 2,
        flops=0,
        tolerance=TOLERANCE,
        error=lambda: relative_error(
            gate_and_multiply(gate_up_TI, Gate.SILU), reference.gate_and_multiply(gate_up_TI, Gate.SILU)
        ),
        run=lambda _: gate_and_multiply(gate_up_TI, Gate.SILU),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Projection:
    """What `rotary_store` is called with; pages in random order."""

    qkv_TXD: Tensor
    kv_PL2KSD: Tensor
    slots: Slots
    rotation: tuple[Tensor, Tensor]
    norm: HeadNorm

    @classmethod
    def made(cls, tokens: int, heads: tuple[int, int], kv_dtype: torch.dtype, device: torch.device) -> "Projection":
        num_pages = -(-tokens // PAGE_SIZE)
        width = DIM + (SCALE_BYTES if kv_dtype in LARGEST else 0)
        angles_TE = torch.rand(tokens, DIM // 2, device=device) * 6
        positions_T = torch.arange(tokens, device=device)
        pages_T = torch.randperm(num_pages, device=device)[positions_T // PAGE_SIZE]
        return cls(
            qkv_TXD=_normal((tokens, heads[0] + 2 * heads[1], DIM), device),
            kv_PL2KSD=torch.zeros(num_pages, LAYERS, 2, heads[1], PAGE_SIZE, width, dtype=kv_dtype, device=device),
            slots=Slots(pages_T=pages_T, offsets_T=positions_T % PAGE_SIZE),
            rotation=(angles_TE.cos().bfloat16(), angles_TE.sin().bfloat16()),
            norm=HeadNorm(weight_GD=_normal((sum(heads), DIM), device), epsilon=EPSILON),
        )

    def run(self, turn: int = 0) -> Tensor:
        return rotary_store(
            self.qkv_TXD, self.kv_PL2KSD, turn % LAYERS, self.slots, rotation=self.rotation, norm=self.norm
        )

    def error(self) -> float:
        """Of queries, keys and values together."""
        num_kv = self.kv_PL2KSD.shape[3]
        num_turned = self.qkv_TXD.shape[1] - num_kv
        expected_TXD = self.qkv_TXD.float().clone()
        normal_TGD = reference.rms_norm(expected_TXD[:, :num_turned], self.norm.weight_GD.float(), EPSILON)
        cos_TE, sin_TE = (each.float() for each in self.rotation)
        expected_TXD[:, :num_turned] = reference.rotary(normal_TGD, cos_TE, sin_TE)
        queries_THD = self.run()
        pages = self.slots.pages_T[::PAGE_SIZE].tolist()
        stored_2KTD = reference.page_vectors(self.kv_PL2KSD, pages, len(self.qkv_TXD))[0].float()
        found_TXD = torch.cat((queries_THD.float(), *stored_2KTD.transpose(1, 2)), dim=1)
        return relative_error(found_TXD, expected_TXD)

    @property
    def num_bytes(self) -> int:
        """Everything of the projection read, queries and one layer's share of the pages written, angles read."""
        num_queries = self.qkv_TXD.shape[1] - 2 * self.kv_PL2KSD.shape[3]
        queries = self.qkv_TXD[:, :num_queries].numel() * self.qkv_TXD.element_size()
        return self.qkv_TXD.nbytes + queries + self.kv_PL2KSD.nbytes // LAYERS + 2 * self.rotation[0].nbytes


def projection(name: str, tokens: int, kv_dtype: torch.dtype, device: torch.device, *, is_small: bool) -> Case:
    """Norm of each head, rotation, store. Queries are normalised again in the next run: they do not grow."""
    own = Projection.made(3 if is_small else tokens, (2, 1) if is_small else (QUERY_HEADS, KEY_HEADS), kv_dtype, device)
    return Case(
        name=name,
        num_bytes=own.num_bytes,
        flops=0,
        tolerance=FP8_TOLERANCE if kv_dtype is torch.float8_e4m3fn else TOLERANCE,
        error=own.error,
        run=own.run,
    )


def _normal(shape: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.empty(shape, device=device).normal_().bfloat16()


COUNTS = (64, 8192)
CASES = (
    *(
        Planned(name=f"{what} {tokens}", make=partial(make, f"{what} {tokens}", tokens))
        for what, make in (("residual add and norm", half_layer), ("gate", gate))
        for tokens in COUNTS
    ),
    *(
        Planned(name=f"{what} {tokens}", make=partial(projection, f"{what} {tokens}", tokens, kv_dtype))
        for what, kv_dtype in (
            ("head norm, rotary, store", torch.bfloat16),
            ("the same, int8 pages", torch.int8),
            ("the same, fp8 pages", torch.float8_e4m3fn),
        )
        for tokens in COUNTS
    ),
)
