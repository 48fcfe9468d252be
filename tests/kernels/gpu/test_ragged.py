"""Contexts of 1 to 131,072 tokens side by side in one launch: every key of every row exactly once, the oracle's result.

The interpreter walks with large tiles of keys and spans as on a GPU; the plans of a GPU's own tiles are counted.
"""

import numpy as np
import pytest
import torch

from kernels import reference
from kernels.attention_form import AttentionForm
from kernels.gpu.attention import attend
from kernels.gpu.launch import Device
from kernels.gpu.tuned import CLASSES, Tiles, tiles_of
from kernels.paged_rows import Cut, paged_rows, split_arrays
from kernels.ragged_tables import ragged_tables

LENGTHS = (2049, 131_072, 1, 2, 1023, 300, 1024, 1025, 9_000, 15, 16, 17, 1)
PAGE_SIZE, DIM = 128, 16
FORM = AttentionForm(scale=0.2)


def walks_far(_operator: str, _device: Device, _padded_dim: int, _element_bytes: int) -> Tiles:
    return Tiles(queries=16, keys=1024, span=1024, num_warps=4, num_stages=2)


@pytest.mark.timeout(180)
def test_one_launch_serves_1_to_128k_tokens(device: torch.device) -> None:
    """Decoded tokens, and a few to verify over several spans. What nobody wrote is NaN."""
    torch.manual_seed(3)
    counts = [-(-length // PAGE_SIZE) for length in LENGTHS]
    shuffled = torch.randperm(sum(counts) + 2).tolist()
    tables = [[shuffled.pop() for _ in range(count)] for count in counts]
    kv = torch.full((sum(counts) + 2, 1, 2, 1, PAGE_SIZE, DIM), float("nan"), dtype=torch.float16)
    for table, length in zip(tables, LENGTHS, strict=True):
        numbers = torch.randn(2, len(table) * PAGE_SIZE, DIM).half()
        numbers[:, length:] = float("nan")
        kv[table] = numbers.view(2, len(table), 1, 1, PAGE_SIZE, DIM).transpose(0, 1).transpose(1, 2)
    rows_of = [*range(len(LENGTHS)), 0]
    starts, news = [*(length - 1 for length in LENGTHS), LENGTHS[0] - 3], [1] * len(LENGTHS) + [3]
    q_THD = torch.randn(sum(news), 1, DIM).half()
    own = kv.to(device)
    rows = paged_rows([tables[row] for row in rows_of], starts, news, own)
    out_THD = attend(q_THD.to(device), own, 0, rows, FORM, walks_far).cpu()
    first = 0
    for row, start, new in zip(rows_of, starts, news, strict=True):
        expected = reference.attention(q_THD[first : first + new], kv, 0, tables[row], start, FORM)
        assert (out_THD[first : first + new].float() - expected.float()).abs().max() < 5e-3, (LENGTHS[row], start)
        first += new


@pytest.mark.parametrize("window", [None, 1, 4096], ids=["whole", "one", "window"])
@pytest.mark.parametrize("architecture", CLASSES)
def test_a_plan_holds_every_key_that_a_row_sees_exactly_once(architecture: int, window: int | None) -> None:
    """With the tiles that serve: a span's keys are its share of what its tile sees, and no work item is left over."""
    own = tiles_of(architecture, "attention_decode", 128, 2)
    cut = Cut(group=4, window=window, tile_queries=own.queries, span=own.span)
    kv = torch.empty(1, 1, 2, 1, 2**17, 4, device="meta")
    facts, _ = ragged_tables([[0]] * len(LENGTHS), [length - 1 for length in LENGTHS], [1] * len(LENGTHS), kv)
    rows_R4 = np.frombuffer(facts, dtype=np.int64).reshape(-1, 4)
    arrays = split_arrays(rows_R4, cut)
    assert arrays is not None
    seen = np.zeros(len(LENGTHS), dtype=np.int64)
    for tile, number in arrays.spans_W2:
        _, token, num_tokens, position, _, _ = arrays.tiles_J6[tile]
        low = max(number * own.span, 0 if window is None else position - window + 1)
        high = min((number + 1) * own.span, position + num_tokens)
        assert low < high, "a span without keys"
        seen[token] += high - low
    expected = np.array(LENGTHS) if window is None else np.minimum(LENGTHS, window)
    assert (seen == expected).all()
    ends = np.cumsum(arrays.tiles_J6[:, 5])
    assert (arrays.tiles_J6[:, 4] == ends - arrays.tiles_J6[:, 5]).all()
    assert ends[-1] == len(arrays.spans_W2)
