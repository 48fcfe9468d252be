"""Queries, keys and values on their way to the attention: normalised, turned, stored, and nothing beside them."""

import pytest
import torch
from torch import Tensor

from kernels import reference
from kernels.gpu.rotary_store import rotary_store
from kernels.kv_store import Slots, kv_store, slot_rows
from kernels.norm import HeadNorm
from kernels.quantized_pages import SCALE_BYTES
from tests.kernels.gpu.closeness import TYPES, assert_close

PAGES, OFFSETS = [4, 4, 1, 1, 0, 3, 3], [14, 15, 0, 1, 7, 3, 2]
EPSILON = 1e-6
SHAPES = [(4, 2, 16, 8), (6, 3, 80, 20), (1, 1, 96, 47), (2, 2, 256, 128)]
"""Query heads, key-value heads, head dim, turned pairs."""


def oracle(qkv: Tensor, counts: tuple[int, int], rotation: tuple[Tensor, Tensor], weight: Tensor | None) -> Tensor:
    """The whole projection after norm and rotation, in fp32 and rounded once."""
    turned = qkv.float().clone()
    num_turned, pairs = sum(counts), rotation[0].shape[1]
    if weight is not None:
        turned[:, :num_turned] = reference.rms_norm(turned[:, :num_turned], weight, EPSILON)
    channels = turned[:, :num_turned, : 2 * pairs]
    turned[:, :num_turned, : 2 * pairs] = reference.rotary(channels, rotation[0].float(), rotation[1].float())
    return turned.to(qkv.dtype)


@pytest.mark.parametrize(
    ("dtype", "num_heads", "num_kv", "dim", "pairs"),
    [*((torch.float32, *shape) for shape in SHAPES), *((dtype, *SHAPES[1]) for dtype in TYPES)],
)
@pytest.mark.parametrize("has_norm", [False, True])
def test_keys_and_values_lie_in_their_slots_and_queries_are_turned(
    dtype: torch.dtype, num_heads: int, num_kv: int, dim: int, pairs: int, has_norm: bool, device: torch.device
) -> None:
    """Slots that nobody stores to stay NaN; pages have an odd number of slots."""
    torch.manual_seed(dim)
    qkv = torch.randn(7, num_heads + 2 * num_kv, dim, device=device).to(dtype)
    angles = torch.rand(7, pairs, device=device) * 6
    rotation = (angles.cos().to(dtype), angles.sin().to(dtype))
    weight = torch.randn(num_heads + num_kv, dim, device=device) if has_norm else None
    expected = oracle(qkv, (num_heads, num_kv), rotation, weight)
    kv = torch.full((5, 3, 2, num_kv, 17, dim), float("nan"), dtype=dtype, device=device)
    expected_kv = kv.clone()
    pages, offsets = torch.tensor(PAGES, device=device), torch.tensor(OFFSETS, device=device)
    norm = None if weight is None else HeadNorm(weight_GD=weight, epsilon=EPSILON)
    q_THD = rotary_store(qkv, kv, 1, Slots(pages_T=pages, offsets_T=offsets), rotation=rotation, norm=norm)
    k_TKD, v_TKD = expected[:, num_heads:-num_kv], expected[:, -num_kv:]
    reference.kv_store(expected_kv, 1, pages, offsets, k_TKD, v_TKD)
    assert_close(q_THD, expected[:, :num_heads])
    assert torch.equal(kv.isnan(), expected_kv.isnan())
    assert_close(kv.nan_to_num(), expected_kv.nan_to_num())


def test_without_norm_and_rotation_queries_stay_and_keys_are_copied(device: torch.device) -> None:
    qkv = torch.randn(7, 6, 16, device=device)
    before = qkv.clone()
    kv = torch.zeros(5, 2, 2, 1, 16, 16, device=device)
    pages, offsets = torch.tensor(PAGES, device=device), torch.tensor(OFFSETS, device=device)
    assert torch.equal(rotary_store(qkv, kv, 0, Slots(pages_T=pages, offsets_T=offsets)), before[:, :4])
    assert torch.equal(kv[pages, 0, 0, 0, offsets], before[:, 4])
    assert torch.equal(kv[pages, 0, 1, 0, offsets], before[:, 5])


def test_a_value_that_is_not_finite_stays_in_its_channel(device: torch.device) -> None:
    """Values are not turned: a NaN must not reach the other channel of its pair."""
    qkv = torch.ones(7, 3, 16, device=device)
    qkv[2, 2, 3] = torch.nan
    kv = torch.zeros(5, 1, 2, 1, 16, 16, device=device)
    angles = torch.rand(7, 8, device=device)
    pages, offsets = torch.tensor(PAGES, device=device), torch.tensor(OFFSETS, device=device)
    rotary_store(qkv, kv, 0, Slots(pages_T=pages, offsets_T=offsets), rotation=(angles.cos(), angles.sin()))
    assert kv.isnan().nonzero().tolist() == [[PAGES[2], 0, 1, 0, OFFSETS[2], 3]]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(("dim", "kv_dtype"), [(16, torch.int8), (80, torch.int8), (80, torch.float8_e4m3fn)])
def test_eight_bit_pages_have_the_bytes_that_the_cpu_writes(
    dim: int, kv_dtype: torch.dtype, dtype: torch.dtype, device: torch.device
) -> None:
    """Over eight orders of magnitude, with zeros, NaN and infinity; not turned, so that both see the same keys."""
    torch.manual_seed(dim)
    magnitudes = torch.logspace(-4, 4, 7)[:, None, None]
    qkv = (torch.randn(7, 8, dim) * magnitudes).clamp(-6e4, 6e4).to(dtype)
    qkv[1, 4], qkv[2, 5, 3], qkv[3, 6, 7] = 0.0, torch.nan, torch.inf
    kv = torch.full((5, 3, 2, 2, 16, dim + SCALE_BYTES), -1, dtype=torch.int8).view(kv_dtype)
    expected_kv = kv.clone()
    pages, offsets = torch.tensor(PAGES), torch.tensor(OFFSETS)
    kv_store(expected_kv, 2, slot_rows(expected_kv, pages, offsets), qkv[:, 4:6], qkv[:, 6:])
    stored = kv.to(device)
    rotary_store(qkv.to(device), stored, 2, Slots(pages_T=pages.to(device), offsets_T=offsets.to(device)))
    assert torch.equal(stored.cpu().view(torch.uint8), expected_kv.view(torch.uint8))
