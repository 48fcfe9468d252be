"""Spans joined: the softmax over all of them, and nothing where a tile wrote its output itself."""

import pytest
import torch

from kernels.gpu.attention_merge import merge_spans


@pytest.mark.parametrize("spans", [2, 3, 8, 9, 70])
def test_joined_spans_equal_one_softmax(spans: int, device: torch.device) -> None:
    """Each span's sums are made from scores below its own whole number; the oracle joins them in fp64."""
    torch.manual_seed(spans)
    sums_WKUD = torch.randn(spans + 1, 2, 6, 80, device=device)
    stats_WKU2 = torch.rand(spans + 1, 2, 6, 2, device=device) + 0.5
    stats_WKU2[..., 0] = torch.randint(-20, 20, stats_WKU2.shape[:3], device=device)
    stats_WKU2[:65, ..., 0] += 150  # far above what the second look of 64 spans finds
    out_THD = torch.full((3, 6, 80), float("nan"), device=device)
    tiles_J6 = torch.tensor([[0, 0, 1, 0, 0, 1], [0, 1, 2, 0, 1, spans]], dtype=torch.int32, device=device)
    merge_spans(out_THD, sums_WKUD, stats_WKU2, tiles_J6, group=3)

    largest_WKU, weights_WKU = stats_WKU2[1:].double().unbind(-1)
    factors_WKU = torch.exp2(largest_WKU - largest_WKU.max(dim=0).values)
    joined_KUD = (factors_WKU[..., None] * sums_WKUD[1:].double()).sum(0) / (factors_WKU * weights_WKU).sum(0)[
        ..., None
    ]
    expected_2HD = joined_KUD.view(2, 2, 3, 80).transpose(0, 1).reshape(2, 6, 80)
    assert torch.allclose(out_THD[1:].double(), expected_2HD, atol=1e-5)
    assert out_THD[0].isnan().all()
