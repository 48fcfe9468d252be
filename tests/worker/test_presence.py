"""STARTING, READY, DRAINING, and never back."""

import pytest

from common.core.errors import Reason, Unavailable
from common.core.worker import WorkerState
from tests.worker.scene import presence


def test_a_worker_takes_work_only_while_ready() -> None:
    it = presence()
    with pytest.raises(Unavailable) as starting:
        it.require_ready()
    it.become_ready()
    it.require_ready()
    it.begin_drain()
    with pytest.raises(Unavailable) as draining:
        it.require_ready()
    assert (starting.value.reason, draining.value.reason) == (Reason.NO_WORKERS, Reason.DRAINING)


def test_a_self_test_that_ends_late_does_not_undo_a_drain() -> None:
    it = presence()
    it.begin_drain()
    it.become_ready()
    assert it.state is WorkerState.DRAINING


def test_the_directory_is_told_state_load_and_layout() -> None:
    it = presence()
    member = it.describe()
    assert member.worker == it.worker
    assert member.state is WorkerState.STARTING
    assert member.load == it.load()
    assert member.layout_fingerprint == it.layout.fingerprint()
