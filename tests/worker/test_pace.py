"""Landing pauses so that a running batch keeps most of a core, and never for long."""

import pytest

from common.worker.pace import MAX_REST_S, SHARE, plan_rest_s


@pytest.mark.parametrize("copy_s", [1e-6, 2e-4, 2e-3])
def test_copies_and_pauses_together_leave_a_running_batch_its_share(copy_s: float) -> None:
    rest_s = plan_rest_s(copy_s=copy_s, is_stepping=True)
    assert copy_s / (copy_s + rest_s) == pytest.approx(SHARE)


def test_nobody_is_held_up_while_nothing_runs() -> None:
    assert plan_rest_s(copy_s=1.0, is_stepping=False) == 0.0


def test_a_copy_that_was_interrupted_does_not_stop_landing_for_long() -> None:
    assert plan_rest_s(copy_s=5.0, is_stepping=True) == MAX_REST_S


def test_a_copy_that_takes_no_time_needs_no_pause() -> None:
    """Virtual time."""
    assert plan_rest_s(copy_s=0.0, is_stepping=True) == 0.0
