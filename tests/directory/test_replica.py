"""Goal: whatever is lost, repeated or late, a replica that calls itself whole equals what the worker owns."""

import random
from collections.abc import Iterable

import pytest

from common.core.ids import Epoch, WorkerId
from common.directory.codec import OwnershipEvent, Snapshot
from common.directory.owners import OwnerTable
from common.directory.replica import CHUNK_KEYS, MAX_RECENT, OwnedPrefixes
from tests.directory.cluster import prefix


def short(number: int) -> bytes:
    return prefix(number)[:16]


def joined(numbers: Iterable[int]) -> bytes:
    return b"".join(map(short, numbers))


def fresh() -> OwnedPrefixes:
    return OwnedPrefixes(OwnerTable())


def event(sequence: int, published: tuple[int, ...] = (), withdrawn: tuple[int, ...] = ()) -> OwnershipEvent:
    return OwnershipEvent(
        worker=WorkerId("w"),
        epoch=Epoch(1),
        sequence=sequence,
        published=joined(published),
        withdrawn=joined(withdrawn),
    )


def whole(owned: OwnedPrefixes) -> bool:
    return owned.is_whole


def test_a_repeated_event_changes_nothing() -> None:
    owned = fresh()
    assert owned.apply(event(1, published=(1,)))
    assert owned.apply(event(2, withdrawn=(1,)))
    assert not owned.apply(event(1, published=(1,)))
    assert len(owned) == 0
    assert whole(owned)


def test_a_gap_is_noticed_and_healed_by_a_snapshot_with_the_later_events_on_top() -> None:
    owned = fresh()
    owned.apply(event(1, published=(1,)))
    owned.apply(event(3, published=(3,)))
    owned.apply(event(4, published=(4,), withdrawn=(1,)))
    assert not whole(owned)
    assert not owned.restore(Snapshot(sequence=1, joined=joined((1,))))
    assert owned.restore(Snapshot(sequence=2, joined=joined((1, 2))))
    assert whole(owned)
    assert owned.keys == {2, 3, 4}


def test_a_lost_tail_is_noticed_by_what_the_worker_says_it_told() -> None:
    owned = fresh()
    owned.apply(event(1, published=(1,)))
    owned.note(1)
    assert whole(owned)
    owned.note(3)
    assert not whole(owned)
    assert not owned.restore(Snapshot(sequence=2, joined=b""))
    assert owned.restore(Snapshot(sequence=5, joined=joined((9,))))
    assert not owned.apply(event(4, published=(4,)))
    assert owned.keys == {9}


def test_a_restore_shows_nothing_before_it_is_complete_and_nothing_at_all_when_given_up() -> None:
    table = OwnerTable()
    owned = OwnedPrefixes(table)
    owned.apply(event(1, published=(1, 2)))
    snapshot = Snapshot(sequence=5, joined=joined(range(100, 100 + 3 * CHUNK_KEYS)))
    steps = owned.restoring(snapshot)
    assert steps is not None
    next(steps)
    assert owned.keys == {1, 2}
    steps.close()
    assert owned.keys == {1, 2}
    assert owned.sequence == 1
    assert table.runs([100]) == {}, "what was taken over half-way counts for nobody"
    assert owned.restore(snapshot)
    assert len(owned) == 3 * CHUNK_KEYS
    while table.sweep():
        pass
    assert len(table) == 3 * CHUNK_KEYS, "the old pages' memory is given back"


@pytest.mark.parametrize("seed", range(200))
def test_random_losses_never_make_a_whole_replica_wrong(seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    truth: set[int] = set()
    states = [frozenset(truth)]
    owned = fresh()
    for sequence in range(1, chance.randrange(2, 3 * MAX_RECENT)):
        gained = tuple(chance.sample(range(40), chance.randrange(3)))
        lost = tuple(number for number in truth if chance.random() < 0.1 and number not in gained)
        truth = (truth - set(lost)) | set(gained)
        states.append(frozenset(truth))
        if chance.random() < 0.97:
            owned.apply(event(sequence, gained, lost))
            if chance.random() < 0.05:
                owned.apply(event(sequence, gained, lost))
        if chance.random() < 0.1:
            owned.note(sequence)
        if chance.random() < 0.1:
            at = max(0, sequence - chance.choice((0, 0, 1, 5, 50, 600)))
            owned.restore(Snapshot(sequence=at, joined=joined(states[at])))
        if owned.is_whole:
            assert owned.keys == states[owned.sequence]
    owned.restore(Snapshot(sequence=len(states) - 1, joined=joined(truth)))
    assert whole(owned)
    assert owned.keys == truth
