"""The seam of two half layers: added, normalised, and each row for itself."""

import pytest
import torch

from kernels import reference
from kernels.gpu.norm import MAX_TILE, add_norm_, norm, norm_
from tests.kernels.gpu.closeness import TYPES, assert_close

EPSILON = 1e-5


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 80, 3584, MAX_TILE + 1])
@pytest.mark.parametrize("has_post", [False, True])
def test_what_is_added_is_added_and_the_sum_normalised(
    channels: int, dtype: torch.dtype, has_post: bool, device: torch.device
) -> None:
    """Three rows, strided ones; weights of a post-norm family are wider than its stream."""
    torch.manual_seed(channels)
    stream_TC, added_TC = torch.randn(2, 3, channels, device=device).to(dtype)
    added_TC = torch.cat((added_TC, added_TC), dim=1)[:, :channels]
    weight_C, post_C = torch.randn(2, channels, device=device).to(torch.float32 if has_post else dtype)
    expected_TC, _ = reference.add_norm(
        stream_TC, None, EPSILON, added_TC=added_TC, post_C=post_C.to(dtype) if has_post else None, scale=0.5
    )
    normal_TC = add_norm_(
        stream_TC, weight_C, EPSILON, added_TC=added_TC, post_C=post_C if has_post else None, scale=0.5
    )
    assert_close(stream_TC, expected_TC)
    assert_close(normal_TC, reference.rms_norm(stream_TC, weight_C, EPSILON).to(dtype))


def test_a_half_layer_without_a_norm_leaves_the_stream_as_it_is(device: torch.device) -> None:
    stream_TC, added_TC = torch.randn(2, 4, 96, device=device)
    expected_TC = stream_TC + added_TC
    normal_TC = add_norm_(stream_TC, None, EPSILON, added_TC=added_TC)
    assert normal_TC is stream_TC
    assert torch.equal(stream_TC, expected_TC)


def test_a_slice_is_normalised_in_place_and_nothing_beside_it(device: torch.device) -> None:
    torch.manual_seed(0)
    wide_TC, weight_C = torch.randn(5, 200, device=device), torch.randn(64, device=device)
    before_TC = wide_TC.clone()
    norm_(wide_TC[:, 32:96], weight_C, EPSILON)
    assert_close(wide_TC[:, 32:96], reference.rms_norm(before_TC[:, 32:96], weight_C, EPSILON))
    assert torch.equal(wide_TC[:, :32], before_TC[:, :32])
    assert torch.equal(wide_TC[:, 96:], before_TC[:, 96:])


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_a_row_has_the_same_bits_however_many_rows_there_are(rows: int, device: torch.device) -> None:
    torch.manual_seed(1)
    x_TC, weight_C = torch.randn(5, 300, device=device), torch.randn(300, device=device)
    assert torch.equal(norm(x_TC[:rows], weight_C, EPSILON), norm(x_TC, weight_C, EPSILON)[:rows])
