"""Keys and values reach their slots, and nothing else does."""

import pytest
import torch

from kernels import reference
from kernels.kv_store import kv_store, slot_rows
from kernels.quantized_pages import LARGEST, SCALE_BYTES, SMALLEST, dequantized, quantize

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kv_dtype", list(LARGEST), ids=str)
def test_eight_bit_vectors_are_off_by_half_a_step_of_their_own_scale(dtype: torch.dtype, kv_dtype: torch.dtype) -> None:
    """A step of integers is the scale; one of floats a sixteenth of the number and, near zero, 2^-10 of the scale."""
    torch.manual_seed(0)
    kv = torch.full((3, 2, 2, NUM_HEADS, 16, DIM + SCALE_BYTES), -1, dtype=torch.int8).view(kv_dtype)
    before = kv.clone()
    k_TKD = torch.randn(20, NUM_HEADS, DIM).to(dtype) * torch.logspace(-4, 4, 20)[:, None, None].to(dtype)
    k_TKD[3] = 0
    positions_T = torch.arange(20)
    rows = slot_rows(kv, torch.tensor([2, 0])[positions_T // 16], positions_T % 16)
    kv_store(kv, LAYER, rows, k_TKD, k_TKD * 2)
    stored_2KTD = dequantized(kv[[2, 0], LAYER].flatten(3).flatten(0, 2), 16).view(2, 2, NUM_HEADS, 16, DIM)
    stored_2KTD = stored_2KTD.permute(1, 2, 0, 3, 4).flatten(2, 3)[:, :, :20]
    for stored_KTD, x_TKD in zip(stored_2KTD, (k_TKD, k_TKD * 2), strict=True):
        scale_TK1 = x_TKD.float().abs().amax(-1, keepdim=True) / LARGEST[kv_dtype]
        off_TKD = scale_TK1 / 2
        if kv_dtype is not torch.int8:
            off_TKD = torch.maximum(x_TKD.float().abs() / 16, scale_TK1 / 1024)
        assert ((stored_KTD.transpose(0, 1) - x_TKD.float()).abs() <= off_TKD * 1.0002).all()
    kept, untouched = kv.view(torch.uint8), before.view(torch.uint8)
    assert torch.equal(kept[1], untouched[1])
    assert torch.equal(kept[:, 0], untouched[:, 0])


@pytest.mark.parametrize("kv_dtype", list(LARGEST), ids=str)
def test_a_vector_that_is_not_finite_stays_so(kv_dtype: torch.dtype) -> None:
    kv = torch.zeros(1, 2, 2, NUM_HEADS, 16, DIM + SCALE_BYTES, dtype=torch.int8).view(kv_dtype)
    k_TKD = torch.ones(1, NUM_HEADS, DIM)
    k_TKD[0, 1, 5] = torch.nan
    k_TKD[0, 2, 5] = torch.inf
    kv_store(kv, LAYER, slot_rows(kv, torch.tensor([0]), torch.tensor([0])), k_TKD, k_TKD)
    stored_KSD = dequantized(kv[0, LAYER, 0].flatten(1), 16)
    assert [bool(stored_KSD[head, 0].isfinite().all()) for head in range(NUM_HEADS)] == [True, False, False, True]


@pytest.mark.parametrize("kv_dtype", list(LARGEST), ids=str)
def test_a_vector_too_small_for_its_factor_is_zero(kv_dtype: torch.dtype) -> None:
    """Its factor would be infinite, and integers made of infinity anything."""
    numbers_TKD, scales_TK = quantize(torch.tensor([[[1e-38, 0.0]], [[SMALLEST, 0.0]]]), kv_dtype)
    assert numbers_TKD.float().tolist() == [[[0.0, 0.0]], [[LARGEST[kv_dtype], 0.0]]]
    assert scales_TK.isfinite().all()
