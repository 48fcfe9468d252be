"""Who went without a word is named until somebody stands in for it."""

from dataclasses import replace

from common.core.clock import ManualClock
from common.core.worker import Role, WorkerState
from services.router.missing import KEPT_S, MAX_MISSING, MissingWorkers
from services.router.standing import Standing
from tests.router.build import load, member


def standing(name: str, role: Role = Role.DECODE, *, epoch: int = 1, seen: float = 0.0, heard: float = 0.0) -> Standing:
    return Standing(member=member(name, role, epoch=epoch), first_seen=seen, heard_at=heard, load=load())


def names(missing: MissingWorkers) -> list[str]:
    return [each.worker.worker for each in missing.list()]


def test_who_says_that_it_leaves_is_not_missed() -> None:
    missing = MissingWorkers(ManualClock())
    told, listed, silent = standing("told"), standing("listed"), standing("silent", heard=7.0)
    told.is_draining = True
    listed.member = replace(listed.member, state=WorkerState.DRAINING)
    for each in (told, listed, silent):
        missing.lost(each)
    assert [(each.worker.worker, each.heard_at) for each in missing.list()] == [("silent", 7.0)]


def test_who_comes_back_under_its_name_is_not_missed_and_stands_in_for_nobody_else() -> None:
    missing = MissingWorkers(ManualClock())
    for name in ("decode-0", "decode-1"):
        missing.lost(standing(name, heard=5.0))
    back = standing("decode-1", epoch=2, seen=9.0)
    for _ in range(2):
        missing.settle([back])
    assert names(missing) == ["decode-0"]


def test_a_pod_of_another_name_stands_in_even_if_it_came_before_the_lease_had_ended() -> None:
    """One for one, of the same role, and none that was there already."""
    missing = MissingWorkers(ManualClock())
    there, reader = standing("there", seen=1.0), standing("reader", Role.PREFILL, seen=6.0)
    for name, heard in (("old-b", 5.5), ("old-a", 5.0)):
        missing.lost(standing(name, heard=heard))
    missing.settle([there, reader])
    assert names(missing) == ["old-a", "old-b"]
    new = standing("new", seen=5.2)
    for _ in range(2):
        missing.settle([there, reader, new])
    assert names(missing) == ["old-b"]


def test_nobody_is_missed_for_ever() -> None:
    clock = ManualClock()
    missing = MissingWorkers(clock)
    for number in range(MAX_MISSING + 1):
        missing.lost(standing(f"decode-{number}", heard=float(number)))
    assert names(missing)[0] == "decode-1", "the one that went first is forgotten first"
    clock.advance(KEPT_S + 10.0)
    missing.settle([])
    assert names(missing)[0] == "decode-11"
