"""The training run on a toy language: it learns, it repeats itself, it follows its schedule."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from models.build.batches import MIN_STREAM_TOKENS, Mixture, Stream
from models.build.network import LlamaNetwork
from models.build.schedule import PHASES, TOKENS_PER_STEP, learning_rate_factor, window_length
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
    network = trained_network(32)
    tokens_BT = counting_mixture(9).batch(windows=4, length=128)
    with torch.inference_mode():
        loss = float(network.loss(tokens_BT))
    assert loss < 1.8


def test_a_run_of_the_same_steps_repeats_exactly() -> None:
    """Weights after a few steps are bit-identical between two runs with one seed and one thread."""
    first, second = trained_network(3).state_dict(), trained_network(3).state_dict()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_an_epoch_of_windows_covers_the_stream_without_overlap() -> None:
    """Within one epoch all starts are distinct and one window apart."""
    stream = Stream(np.arange(MIN_STREAM_TOKENS, dtype=np.uint32), seed=3)
    first = stream.window(256)
    starts = sorted([int(first[0]), *stream.starts])
    assert len(first) == 257
    assert {later - earlier for earlier, later in itertools.pairwise(starts)} == {256}


def test_short_streams_are_left_out_and_none_at_all_is_an_error() -> None:
    """A distribution without the library's tests still trains; one without sources says what is missing."""
    short, long = Stream(np.zeros(10, dtype=np.uint32), seed=1), counting_mixture(1).streams[0]
    assert Mixture([(short, 0.9), (long, 0.1)], seed=1).streams == [long]
    with pytest.raises(ValueError, match="standard library"):
        Mixture([(short, 1.0)], seed=1)


def test_the_learning_rate_warms_up_holds_and_decays() -> None:
    """Shape of the schedule at its corners; never negative, even past the end."""
    assert learning_rate_factor(0.0) < 0.1
    assert learning_rate_factor(0.5) == 1.0
    assert 0.0 < learning_rate_factor(0.99) < 0.1
    assert learning_rate_factor(1.2) > 0.0


def test_every_window_length_fills_a_batch_and_the_last_phase_sees_whole_contexts() -> None:
    """Lengths divide the tokens of a step; long contexts come while the rate decays."""
    lengths = {length for phase in PHASES for length in phase.lengths}
    assert all(TOKENS_PER_STEP % length == 0 for length in lengths)
    assert NAMED_SHAPES["demo"].max_positions in {window_length(0.95, step) for step in range(3)}
    assert {window_length(0.1, step) for step in range(3)} == {256}


@pytest.mark.parametrize(("steps", "expected"), [(None, 0.5), (200, 0.25)])
def test_a_budget_counts_seconds_or_steps(steps: int | None, expected: float) -> None:
    """After 50 steps in 30 s, a minute is half spent, and so are a quarter of 200 steps."""
    assert Budget(seconds=60.0, steps=steps).progress(step=50, elapsed_s=30.0) == expected
