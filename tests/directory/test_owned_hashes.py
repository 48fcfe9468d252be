"""Goal: the snapshot's bytes are always those of what is owned, whatever came and went."""

import random

import pytest

from common.directory.owned_hashes import OwnedHashes
from tests.directory.cluster import prefix


@pytest.mark.parametrize("seed", range(10))
def test_the_bytes_are_those_of_a_set(seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    owned, truth = OwnedHashes(), set[bytes]()
    for _ in range(500):
        short = prefix(chance.randrange(40))[:16]
        if chance.random() < 0.5:
            owned.add(short)
            truth.add(short)
        else:
            owned.discard(short)
            truth.discard(short)
        joined = owned.joined()
        assert len(joined) == 16 * len(truth) == 16 * len(owned)
        assert {joined[at : at + 16] for at in range(0, len(joined), 16)} == truth
        assert (short in owned) is (short in truth)
