"""The digest's blocks: whole files while they are small, and the beginning, the end and the middle of large ones."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from common.model.digest import BLOCK_BYTES, NUM_BLOCKS, block_offsets


@given(st.integers(0, NUM_BLOCKS * BLOCK_BYTES))
def test_a_small_file_is_covered_whole(size: int) -> None:
    offsets = block_offsets(size)
    assert offsets == list(range(0, size, BLOCK_BYTES))


@given(st.integers(NUM_BLOCKS * BLOCK_BYTES + 1, 2**43))
def test_a_large_file_is_sampled_from_its_first_byte_to_its_last(size: int) -> None:
    offsets = block_offsets(size)
    assert len(offsets) == NUM_BLOCKS
    assert (offsets[0], offsets[-1] + BLOCK_BYTES) == (0, size)
    gaps = [second - first for first, second in pairwise(offsets)]
    assert max(gaps) - min(gaps) <= 1
