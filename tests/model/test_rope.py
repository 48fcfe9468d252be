"""Rotary frequencies: the formula, and its scalings."""

import math

import torch

from common.model.rope import frequencies, rotary_tables
from common.model.rope_form import LinearScaling, Llama3Scaling, Rope


def test_frequencies_fall_from_one_by_the_power_of_theta() -> None:
    plain = frequencies(Rope(theta=10_000.0, scaling=None), 8, 100)
    assert torch.allclose(plain, torch.tensor([1.0, 0.1, 0.01, 0.001]))


def test_linear_scaling_divides_every_frequency() -> None:
    plain, slow = (
        frequencies(Rope(theta=500.0, scaling=scaling), 16, 100) for scaling in (None, LinearScaling(factor=4.0))
    )
    assert torch.allclose(slow * 4, plain)


def test_llama3_keeps_fast_pairs_slows_slow_ones_and_blends_between() -> None:
    """Pair by pair against the published rule, written with wavelengths."""
    scaling = Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_positions=8192)
    plain = frequencies(Rope(theta=500_000.0, scaling=None), 128, 100).tolist()
    scaled = frequencies(Rope(theta=500_000.0, scaling=scaling), 128, 100).tolist()
    kinds = set()
    for before, after in zip(plain, scaled, strict=True):
        wavelength = 2 * math.pi / before
        if wavelength < 8192 / 4.0:
            expected, kind = before, "kept"
        elif wavelength > 8192 / 1.0:
            expected, kind = before / 8.0, "slowed"
        else:
            share = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            expected, kind = (1 - share) * before / 8.0 + share * before, "blended"
        kinds.add(kind)
        assert math.isclose(after, expected, rel_tol=1e-5)
    assert kinds == {"kept", "slowed", "blended"}


def test_tables_hold_cosine_and_sine_of_position_times_frequency() -> None:
    cos_PE, sin_PE = rotary_tables(Rope(theta=100.0, scaling=None), 4, 50)
    assert cos_PE.shape == (50, 2)
    assert math.isclose(float(cos_PE[49, 1]), math.cos(4.9), rel_tol=1e-5)
    assert math.isclose(float(sin_PE[7, 0]), math.sin(7.0), rel_tol=1e-5)
