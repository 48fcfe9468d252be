"""Bursts set off no look for garbage, and cycles do not gather without bound."""

import gc
from collections.abc import Iterator

import pytest

from common.observe.garbage import (
    LOOKS_UNTIL_ALL,
    LOOKS_UNTIL_OLDER,
    OBJECTS_OF_BURST,
    calm_collector,
    hold_collector,
)

MOST_OBJECTS = OBJECTS_OF_BURST * (LOOKS_UNTIL_OLDER + 2) * (LOOKS_UNTIL_ALL + 2)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """A collector that is calm, as in a service; afterwards that of the other tests."""
    thresholds = gc.get_threshold()
    gc.collect()
    calm_collector()
    yield
    gc.set_threshold(*thresholds)


class Knot:
    """A cycle of one."""

    num_alive = 0

    def __init__(self) -> None:
        self.me = self
        Knot.num_alive += 1

    def __del__(self) -> None:
        Knot.num_alive -= 1


def _num_looks() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def test_bursts_that_are_freed_start_no_look() -> None:
    before = _num_looks()
    for _ in range(100):
        burst = [[number] for number in range(OBJECTS_OF_BURST // 2)]
        del burst
    assert _num_looks() == before


def test_what_stays_is_looked_through_in_small_parts() -> None:
    """Many streams that begin at once leave no long look for later."""
    kept: list[list[int]] = []
    before = _num_looks()
    for number in range(12 * OBJECTS_OF_BURST):
        kept.append([number])
        if number % 1000 == 0:
            assert len(gc.get_objects(generation=1)) < 1.5 * OBJECTS_OF_BURST
    assert _num_looks() > before + 10


def test_what_is_there_at_the_start_is_left_alone() -> None:
    """Modules, classes, functions: tens of thousands of objects that live as long as the process."""
    assert gc.get_freeze_count() > 10_000
    assert len(gc.get_objects()) < 5_000


def test_nobody_looks_while_modules_are_imported_and_somebody_does_afterwards() -> None:
    hold_collector()
    before = _num_looks()
    kept: list[list[int]] = [[number] for number in range(3 * OBJECTS_OF_BURST)]
    assert _num_looks() == before
    calm_collector()
    kept.extend([number] for number in range(3 * OBJECTS_OF_BURST))
    assert _num_looks() > before


def test_cycles_do_not_gather_without_bound() -> None:
    """Each is dropped only when it is old, which is the worst case: it waits for a look through everything."""
    Knot.num_alive = most = 0
    held: list[Knot] = []
    for number in range(MOST_OBJECTS):
        held.append(Knot())
        if len(held) == 3 * OBJECTS_OF_BURST:
            del held[: 2 * OBJECTS_OF_BURST]
        if number % 1000 == 0:
            most = max(most, Knot.num_alive)
    assert most < MOST_OBJECTS + 3 * OBJECTS_OF_BURST
