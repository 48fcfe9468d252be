"""The table of tiles: complete, as its writer lays it out, and fit for exact mode."""

import json

import pytest
import torch

from kernels.bench import tune
from kernels.bench.attention_cases import Scene
from kernels.gpu.tuned import CLASSES, SMALL, TABLE, Tiles, laid_out, tiles_of

OPERATORS = ("attention_decode", "attention_extend", "attention_exact_decode", "attention_exact_extend")
SHAPES = [(dim, element_bytes) for dim in (16, 32, 64, 128, 256) for element_bytes in (1, 2, 4)]


def test_the_file_is_as_its_writer_lays_it_out() -> None:
    text = TABLE.read_text()
    assert laid_out(json.loads(text)) == text


@pytest.mark.parametrize("architecture", CLASSES)
def test_every_operator_has_tiles_for_every_shape_that_is_served(architecture: int) -> None:
    for operator in OPERATORS:
        for shape in SHAPES:
            own = tiles_of(architecture, operator, *shape)
            assert own.span % own.keys == 0


@pytest.mark.parametrize("architecture", CLASSES)
def test_exact_decode_and_extend_share_keys_and_spans(architecture: int) -> None:
    """And rows a warp has to itself, so that a row is summed by the same lanes in both."""
    for shape in SHAPES:
        own, other = (tiles_of(architecture, f"attention_exact_{kernel}", *shape) for kernel in ("decode", "extend"))
        assert (own.keys, own.span) == (other.keys, other.span)
        assert own.queries // own.num_warps == other.queries // other.num_warps


def test_tuning_keeps_what_is_faster_and_passes_over_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a made-up clock: 64 keys are refused, 128 the fastest, warps do not matter."""

    def seconds(_scene: Scene, own: Tiles, _device: torch.device) -> float | None:
        return None if own.keys == 64 else 1.0 / own.keys - 1e-6 * own.num_warps

    monkeypatch.setattr(tune, "seconds", seconds)
    scene = Scene(tune.shape_of("attention_extend", 64, None).small(), torch.device("cpu"))
    best, best_s = tune.fastest("attention_extend", scene, SMALL, torch.device("cpu"))
    assert best.keys == 128
    assert best.num_warps == SMALL.num_warps
    assert best_s == seconds(scene, best, torch.device("cpu"))
