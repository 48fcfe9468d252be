"""Goal: the shared table answers as one set of pages per worker would, and forgets a worker in one moment."""

import random
from array import array

import pytest

from common.directory.owners import NUM_SHARDS, STRIDE, OwnerTable, Slot, keys_of


def run_of(held: set[int], keys: list[int]) -> int:
    return next((index for index, key in enumerate(keys) if key not in held), len(keys))


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_those_of_one_set_per_worker(seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    table, truth = OwnerTable(stride=1), dict[Slot, set[int]]()
    for _ in range(400):
        what = chance.random()
        if what < 0.05 and len(truth) < 70:
            truth[table.open()] = set()
        elif what < 0.07 and truth:
            slot = chance.choice(list(truth))
            table.close(slot)
            del truth[slot]
        elif what < 0.2:
            table.sweep()
        elif truth:
            slot, keys = chance.choice(list(truth)), chance.sample(range(60), chance.randrange(20))
            if chance.random() < 0.7:
                table.add(slot, keys)
                truth[slot] |= set(keys)
            else:
                table.drop(slot, keys)
                truth[slot] -= set(keys)
        asked = list(range(chance.randrange(40), 60))
        expected = {slot: run for slot, held in truth.items() if (run := run_of(held, asked))}
        assert table.runs(asked) == expected
        assert {slot: table.count(slot) for slot in truth} == {slot: len(held) for slot, held in truth.items()}


@pytest.mark.parametrize("seed", range(20))
def test_runs_without_holes_are_exact_whatever_is_left_out_of_the_search(seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    table, prompt = OwnerTable(), [chance.getrandbits(64) for _ in range(chance.randrange(1, 400))]
    expected = {}
    for _ in range(chance.randrange(1, 80)):
        run = chance.choice((0, 1, len(prompt), chance.randrange(len(prompt) + 1)))
        slot = table.open()
        table.add(slot, prompt[:run])
        expected |= {slot: run} if run else {}
    assert table.runs(prompt) == expected


def test_a_hole_as_long_as_the_stride_is_seen() -> None:
    table, prompt = OwnerTable(), list(range(1000))
    slot = table.open()
    table.add(slot, prompt)
    table.drop(slot, prompt[500 : 500 + STRIDE])
    assert 500 - STRIDE < table.runs(prompt)[slot] <= 500 + STRIDE


def test_a_closed_worker_counts_no_more_and_its_slot_comes_back_empty() -> None:
    table = OwnerTable()
    one, other = table.open(), table.open()
    table.add(one, range(1000))
    table.add(other, range(500, 1500))
    table.close(one)
    assert table.runs([0]) == {}
    assert table.runs([500, 501]) == {other: 2}
    again = table.open()
    assert again != one, "bits that are not swept yet may not be lent"
    for _ in range(NUM_SHARDS):
        assert table.sweep()
    assert not table.sweep()
    assert len(table) == 1000
    reused = table.open()
    assert reused == one
    assert table.keys(reused) == frozenset()


def test_more_workers_than_bits_of_a_word_have_a_place() -> None:
    table = OwnerTable()
    slots = [table.open() for _ in range(200)]
    for number, slot in enumerate(slots):
        table.add(slot, range(number + 1))
    assert table.runs(list(range(300))) == {slot: number + 1 for number, slot in enumerate(slots)}


def test_further_bits_count_only_for_open_slots() -> None:
    table = OwnerTable()
    slot, gone = table.open(), table.open()
    table.add(slot, (1, 3))
    table.close(gone)
    also = {2: 1 << slot | 1 << gone}
    assert table.runs((1, 2, 3), also) == {slot: 3}


def test_a_key_is_the_beginning_of_a_hash_however_long_that_is() -> None:
    hashes = [bytes([number]) * 32 for number in (1, 2, 250)]
    assert keys_of(hashes) == keys_of([each[:16] for each in hashes]) == array("Q", b"".join(h[:8] for h in hashes))
    assert not keys_of([])
