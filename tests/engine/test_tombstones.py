"""An attempt that is over stays over, later ones may come, and what is remembered is bounded."""

from common.core.ids import RequestId
from common.engine.tombstones import Tombstones

NAME = RequestId("req")


def test_every_attempt_up_to_the_highest_that_is_over_is_covered() -> None:
    dead = Tombstones()
    assert not dead.covers(NAME, 1)
    dead.add(NAME, 2)
    dead.add(NAME, 1)  # heard late: the second is no less over for it
    assert [dead.covers(NAME, attempt) for attempt in (1, 2, 3)] == [True, True, False]


def test_the_longest_untold_is_forgotten_first() -> None:
    dead = Tombstones(capacity=2)
    for name in ("a", "b", "a", "c"):
        dead.add(RequestId(name), 1)
    assert [dead.covers(RequestId(name), 1) for name in "abc"] == [True, False, True]
