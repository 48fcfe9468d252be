"""Pages whose bytes lie beyond 2^31 of their tensor: every kernel that finds a page by its number finds it there.

The tensor is memory that nobody touches but for a few pages at its end: the system hands those out alone.
"""

import mmap

import pytest
import torch
from torch import Tensor

from kernels import reference
from kernels.attention_form import AttentionForm
from kernels.gpu.attention import attend
from kernels.gpu.page_move import move
from kernels.gpu.rotary_store import rotary_store
from kernels.kv_store import Slots
from kernels.paged_rows import paged_rows

LAYERS, KV_HEADS, SLOTS, DIM = 2, 2, 16, 64
FORM = AttentionForm(scale=0.2)
NO_RESERVE = 0x4000
"""MAP_NORESERVE of Linux, which this Python does not name: address space, and no promise of memory."""


def sparse_pages(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Just beyond 2^31 elements, so that an offset in elements, too, needs more than 31 bits."""
    page = LAYERS * 2 * KV_HEADS * SLOTS * DIM
    num_pages = 2**31 // page + 8
    num_bytes = num_pages * page * dtype.itemsize
    try:
        if device.type == "cuda":
            return torch.zeros(num_pages, LAYERS, 2, KV_HEADS, SLOTS, DIM, dtype=dtype, device=device)
        memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE)
    except (OSError, torch.OutOfMemoryError) as refusal:
        pytest.skip(f"{num_bytes} bytes: {refusal}")
    return torch.frombuffer(memory, dtype=dtype).view(num_pages, LAYERS, 2, KV_HEADS, SLOTS, DIM)


@pytest.mark.parametrize("dtype", [torch.float16], ids=str)
def test_stored_read_and_moved_beyond_31_bits(dtype: torch.dtype, device: torch.device) -> None:
    """One pool for all: what is stored by the fused operator is attended to, decoded and extended, and moved."""
    torch.manual_seed(0)
    kv = sparse_pages(dtype, device)
    table = [len(kv) - 1, len(kv) - 3]
    assert table[1] * kv[0].numel() > 2**31
    qkv = torch.randn(30, 2 + 2 * KV_HEADS, DIM, device=device).to(dtype)
    positions = torch.arange(30, device=device)
    pages = torch.tensor(table, device=device)[positions // SLOTS]
    q_THD = rotary_store(qkv, kv, 1, Slots(pages_T=pages, offsets_T=positions % SLOTS))
    own_KTD = torch.cat([kv[page, 1, 0] for page in table], dim=1)[:, :30]
    assert torch.equal(own_KTD.transpose(0, 1), qkv[:, 2 : 2 + KV_HEADS])

    rows = paged_rows([table, table], [0, 29], [30, 1], kv)
    out_THD = attend(torch.cat((q_THD, q_THD[-1:])), kv, 1, rows, FORM)
    expected_THD = reference.attention(q_THD, kv, 1, table, 0, FORM)
    assert (out_THD[:30] - expected_THD).abs().max() < 5e-3
    assert (out_THD[30] - expected_THD[29]).abs().max() < 5e-3

    pages_PB = kv.view(len(kv), -1).view(torch.uint8)
    staging_NB = torch.zeros(2, pages_PB.shape[1], dtype=torch.uint8, device=device)
    move(pages_PB, staging_NB, torch.tensor(table, device=device), None, 0, is_gather=True)
    for place, page in enumerate(table):
        assert torch.equal(staging_NB[place], pages_PB[page])
    free = torch.tensor([len(kv) - 2, len(kv) - 4], device=device)
    move(staging_NB, pages_PB, free, None, 0, is_gather=False)
    assert torch.equal(kv[free[0]].view(torch.uint8), kv[table[0]].view(torch.uint8))
