"""Keys and values reach their slots, and nothing else does."""

import pytest
import torch

from kernels import reference
from kernels.kv_store import kv_store, slot_rows

NUM_TOKENS, NUM_HEADS, DIM, LAYER = 37, 4, 32, 1


@pytest.mark.parametrize("page_size", [1, 16, 24])
def test_stored_keys_and_values_lie_in_their_slots_and_nowhere_else(page_size: int) -> None:
    torch.manual_seed(page_size)
    kv = torch.full((45, 3, 2, NUM_HEADS, page_size, DIM), float("nan"))
    expected = kv.clone()
    k_TKD, v_TKD = torch.randn(2, NUM_TOKENS, NUM_HEADS, DIM)
    positions_T = torch.arange(5, 5 + NUM_TOKENS)
    pages_T, offsets_T = torch.randperm(45)[positions_T // page_size], positions_T % page_size
    kv_store(kv, LAYER, slot_rows(kv, pages_T, offsets_T), k_TKD, v_TKD)
    reference.kv_store(expected, LAYER, pages_T, offsets_T, k_TKD, v_TKD)
    assert torch.equal(kv.isnan(), expected.isnan())
    assert torch.equal(kv.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("page", [-1, 45])
def test_a_page_that_does_not_exist_is_refused(page: int) -> None:
    with pytest.raises(IndexError):
        slot_rows(torch.zeros(45, 3, 2, NUM_HEADS, 16, DIM), torch.tensor([0, page]), torch.tensor([0, 0]))
