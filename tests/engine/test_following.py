"""Tokens that go from one step's draws to the next step's inputs without the host, and numbers on their way to it."""

import math

import pytest
import torch

from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.step import STAND_IN, StepRow
from common.engine.following import Draws, following
from common.engine.host_copy import HostCopy


def row(follows: int | None, token: int = 7) -> StepRow:
    own = STAND_IN if follows is not None else TokenId(token)
    return StepRow(sequence=SequenceId(RequestId("r")), tokens=(own,), start=4, pages=(PageId(0),) * 5, follows=follows)


def test_each_row_gets_the_draw_of_the_row_it_follows_and_the_others_keep_their_tokens() -> None:
    last = Draws(ids_S=torch.tensor([40, 50, 60]), places=[2, None, 0])
    found = following([row(2), row(None), row(0)], last, vocab_size=100)
    assert found is not None
    tokens_T = torch.tensor([0, 7, 0])
    found.write(tokens_T)
    assert tokens_T.tolist() == [40, 7, 60]


def test_a_row_behind_one_that_drew_nothing_or_nonsense_gets_a_token_of_the_vocabulary() -> None:
    last = Draws(ids_S=torch.tensor([-5, 10**9]), places=[None, 0, 1])
    found = following([row(0), row(1), row(2)], last, vocab_size=100)
    assert found is not None
    assert all(0 <= token < 100 for token in found.ids_N.tolist())


def test_nothing_follows_in_a_step_whose_tokens_are_known() -> None:
    assert following([row(None)], None, vocab_size=100) is None
    with pytest.raises(AssertionError, match="never launched"):
        following([row(0)], None, vocab_size=100)


def test_what_travels_in_one_buffer_arrives_as_it_was() -> None:
    """Flags, ids and floats of single precision, which a double holds; also where there are none."""
    floats = torch.tensor([-math.inf, 0.1, -3.5e-30])
    parts = [torch.tensor([True, False]), torch.tensor([1, 2**40]), floats, torch.empty(0, dtype=torch.int64)]
    direct, staged = HostCopy(parts, is_staged=False).parts(), HostCopy(parts, is_staged=True).parts()
    for plain, own in zip(direct, staged, strict=True):
        assert plain.tolist() == own.tolist()
