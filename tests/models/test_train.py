"""The training run on a toy language: it learns, repeats itself, and keeps to its budget."""

import dataclasses

import numpy as np
import pytest
import torch

from models.build.batches import Mixture, Stream
from models.build.network import LlamaNetwork
from models.build.shape import NAMED_SHAPES
from models.build.train import Budget, train

TINY = dataclasses.replace(NAMED_SHAPES["tiny"], hidden=32, vocab=64, num_layers=1)


def counting_mixture(seed: int) -> Mixture:
    """A stream that counts upwards modulo 8: every next token is certain."""
    return Mixture([(Stream(np.arange(60_000, dtype=np.uint32) % 8, seed=seed), 1.0)], seed=seed)


def trained_network(steps: int) -> LlamaNetwork:
    """A tiny network after so many steps on the counting language, on one thread."""
    torch.set_num_threads(1)
    network = LlamaNetwork(TINY)
    network.initialise(torch.Generator().manual_seed(1))
    budget = Budget(seconds=600.0, steps=steps)
    run = train(network, counting_mixture(2), budget, device="cpu", snapshot_folder=None)
    assert run.steps == steps
    return network


def test_a_short_run_learns_a_certain_language() -> None:
    """From ln(64) the loss falls below ln(8), which is knowing the symbols, far enough to know their order."""
    network = trained_network(50)
    tokens_BT = counting_mixture(9).batch(windows=4, length=128)
    with torch.inference_mode():
        loss = float(network.loss(tokens_BT))
    assert loss < 1.8


def test_a_run_of_the_same_steps_repeats_exactly() -> None:
    """Weights after a few steps are bit-identical between two runs with one seed and one thread."""
    first, second = trained_network(3).state_dict(), trained_network(3).state_dict()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize(("steps", "expected"), [(None, 0.5), (200, 0.25)])
def test_a_budget_counts_seconds_or_steps(steps: int | None, expected: float) -> None:
    """After 50 steps in 30 s, a minute is half spent, and so are a quarter of 200 steps."""
    assert Budget(seconds=60.0, steps=steps).progress(step=50, elapsed_s=30.0) == expected


def test_a_run_that_goes_on_counts_from_where_the_snapshot_was() -> None:
    """Half of what was left at 0.6 is spent at 0.8."""
    assert Budget(seconds=60.0, steps=None, start=0.6).progress(step=1, elapsed_s=30.0) == pytest.approx(0.8)
