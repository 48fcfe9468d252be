"""The schedule of a training run: learning rate and window length over its progress."""

from models.build.schedule import PHASES, TOKENS_PER_STEP, learning_rate_factor, window_length
from models.build.shape import NAMED_SHAPES


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
