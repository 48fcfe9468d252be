"""Goal: whatever is lost, repeated or late, a replica that calls itself whole equals what the worker owns."""

import random

import pytest

from common.core.ids import Epoch, WorkerId
from common.directory.codec import OwnershipEvent, Snapshot
from common.directory.replica import MAX_RECENT, OwnedPrefixes
from tests.directory.cluster import prefix


def short(number: int) -> bytes:
    return prefix(number)[:16]


def event(sequence: int, published: tuple[int, ...] = (), withdrawn: tuple[int, ...] = ()) -> OwnershipEvent:
    return OwnershipEvent(
        worker=WorkerId("w"),
        epoch=Epoch(1),
        sequence=sequence,
        published=tuple(map(short, published)),
        withdrawn=tuple(map(short, withdrawn)),
    )


def whole(owned: OwnedPrefixes) -> bool:
    return owned.is_whole


def test_a_held_run_ends_at_the_first_page_that_is_missing() -> None:
    owned = OwnedPrefixes()
    owned.apply(event(1, published=(1, 2, 4)))
    assert owned.held_run([prefix(number) for number in (1, 2, 3, 4)]) == 2
    assert owned.held_run([prefix(2)]) == 1
    assert owned.held_run([prefix(3), prefix(1)]) == 0
    assert owned.held_run([]) == 0


def test_a_repeated_event_changes_nothing() -> None:
    owned = OwnedPrefixes()
    assert owned.apply(event(1, published=(1,)))
    assert owned.apply(event(2, withdrawn=(1,)))
    assert not owned.apply(event(1, published=(1,)))
    assert len(owned) == 0
    assert whole(owned)


def test_a_gap_is_noticed_and_healed_by_a_snapshot_with_the_later_events_on_top() -> None:
    owned = OwnedPrefixes()
    owned.apply(event(1, published=(1,)))
    owned.apply(event(3, published=(3,)))
    owned.apply(event(4, published=(4,), withdrawn=(1,)))
    assert not whole(owned)
    assert not owned.restore(Snapshot(sequence=1, owned=(short(1),)))
    assert owned.restore(Snapshot(sequence=2, owned=(short(1), short(2))))
    assert whole(owned)
    assert owned.hashes == {short(2), short(3), short(4)}


def test_a_lost_tail_is_noticed_by_what_the_worker_says_it_told() -> None:
    owned = OwnedPrefixes()
    owned.apply(event(1, published=(1,)))
    owned.note(1)
    assert whole(owned)
    owned.note(3)
    assert not whole(owned)
    assert not owned.restore(Snapshot(sequence=2, owned=()))
    assert owned.restore(Snapshot(sequence=5, owned=(short(9),)))
    assert not owned.apply(event(4, published=(4,)))
    assert owned.hashes == {short(9)}


@pytest.mark.parametrize("seed", range(200))
def test_random_losses_never_make_a_whole_replica_wrong(seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    truth: set[int] = set()
    states = [frozenset(truth)]
    owned = OwnedPrefixes()
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
            owned.restore(Snapshot(sequence=at, owned=tuple(map(short, states[at]))))
        if owned.is_whole:
            assert owned.hashes == set(map(short, states[owned.sequence]))
    owned.restore(Snapshot(sequence=len(states) - 1, owned=tuple(map(short, truth))))
    assert whole(owned)
    assert owned.hashes == set(map(short, truth))
