"""Contexts in pages of a poisoned pool, and what the oracle says of them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from kernels import reference
from kernels.attention_form import AttentionForm
from kernels.gpu.attention import attend
from kernels.kv_store import kv_store, slot_rows
from kernels.paged_rows import paged_rows
from kernels.quantized_pages import LARGEST, SCALE_BYTES

LAYER = 1
SPARE_PAGES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """New tokens of one context: positions first to end."""

    context: int
    first: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    query: int
    key: int
    dim: int


class Contexts:
    """Contexts of given lengths whose keys and values are all stored. Every other slot of the pool is NaN."""

    def __init__(
        self,
        lengths: Sequence[int],
        heads: Heads,
        device: torch.device,
        *,
        page_size: int = 16,
        dtype: torch.dtype = torch.float32,
        kv_dtype: torch.dtype | None = None,
    ) -> None:
        torch.manual_seed(sum(lengths))
        counts = [-(-length // page_size) for length in lengths]
        num_pages = sum(counts) + SPARE_PAGES
        shuffled = random.Random(num_pages).sample(range(num_pages), num_pages)
        firsts = [0, *torch.tensor(counts).cumsum(0).tolist()]
        self.tables = [shuffled[first:end] for first, end in pairwise(firsts)]
        self.q = [torch.randn(length, heads.query, heads.dim).to(dtype).to(device) for length in lengths]
        shape = (num_pages, LAYER + 1, 2, heads.key, page_size)
        if kv_dtype in LARGEST:
            self.kv = torch.full((*shape, heads.dim + SCALE_BYTES), -1, dtype=torch.int8).view(kv_dtype)
        else:
            self.kv = torch.full((*shape, heads.dim), float("nan"), dtype=kv_dtype or dtype)
        for table, length in zip(self.tables, lengths, strict=True):
            positions_T = torch.arange(length)
            rows = slot_rows(self.kv, torch.tensor(table)[positions_T // page_size], positions_T % page_size)
            k_TKD, v_TKD = torch.randn(2, length, heads.key, heads.dim).to(dtype)
            kv_store(self.kv, LAYER, rows, k_TKD, v_TKD)
        self.kv = self.kv.to(device)

    def attend(self, spans: Sequence[Span], form: AttentionForm, *, is_exact: bool = False) -> Tensor:
        """The spans as rows of one forward pass, in one call."""
        tables = [self.tables[span.context] for span in spans]
        starts, counts = [span.first for span in spans], [span.end - span.first for span in spans]
        rows = paged_rows(tables, starts, counts, self.kv, is_exact=is_exact)
        return attend(self._queries(spans), self.kv, LAYER, rows, form)

    def expected(self, spans: Sequence[Span], form: AttentionForm) -> Tensor:
        """The same by the oracle."""
        return torch.cat(
            [
                reference.attention(
                    self.q[span.context][span.first : span.end],
                    self.kv,
                    LAYER,
                    self.tables[span.context][: -(-span.end // self.kv.shape[4])],
                    span.first,
                    form,
                )
                for span in spans
            ]
        )

    def _queries(self, spans: Sequence[Span]) -> Tensor:
        """Inside a wider tensor, as a fused projection leaves them: tokens lie apart."""
        q_THD = torch.cat([self.q[span.context][span.first : span.end] for span in spans])
        wide_TXD = torch.full((q_THD.shape[0], q_THD.shape[1] + 3, q_THD.shape[2]), float("nan"), dtype=q_THD.dtype)
        fused_TXD = wide_TXD.to(q_THD.device)
        fused_TXD[:, : q_THD.shape[1]] = q_THD
        return fused_TXD[:, : q_THD.shape[1]]
