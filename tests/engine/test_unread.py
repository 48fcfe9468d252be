"""Goal: a worker tells how much it still has to read: not what its cache has, and what is left of a prompt that has
begun. Method: both cores, turn by turn, over an executor that computes nothing."""

from itertools import pairwise

import pytest

from common.core.clock import ManualClock
from common.core.request import Work
from services.decode.core import DecodeCore
from services.prefill.core import PrefillCore
from tests.engine.relay import make_decode, make_prefill
from tests.engine.rig import PAGE_SIZE, work

SHARED = list(range(20 * PAGE_SIZE))
LONG = work("long", [*range(300, 300 + 25 * PAGE_SIZE)])


def core_of(role: str) -> DecodeCore | PrefillCore:
    return make_decode(ManualClock()).core if role == "decode" else make_prefill(ManualClock()).core


def put(core: DecodeCore | PrefillCore, given: Work) -> None:
    if isinstance(core, DecodeCore):
        core.start_local(given)
    else:
        core.submit(given, None)


def unread(core: DecodeCore | PrefillCore) -> int:
    load = core.look().load
    assert bool(load.unread_prompts) == bool(load.waiting_tokens)
    return load.waiting_tokens


@pytest.mark.parametrize("role", ["decode", "prefill"])
def test_of_a_prompt_that_has_begun_what_is_left_is_told(role: str) -> None:
    core = core_of(role)
    put(core, LONG)
    told = [unread(core)]
    while told[-1]:
        assert core.advance()
        told.append(unread(core))
    assert told[0] == len(LONG.prompt)
    assert len(told) > 3
    assert all(after < before for before, after in pairwise(told)), told


@pytest.mark.parametrize("role", ["decode", "prefill"])
def test_what_the_cache_has_is_not_told_as_unread(role: str) -> None:
    """The last token is computed in any case, and its page with it."""
    core = core_of(role)
    put(core, work("first", [*SHARED, 400]))
    while unread(core):
        core.advance()
    put(core, work("second", [*SHARED, 401, 402]))
    assert unread(core) == 2
    put(core, work("same", SHARED))
    assert unread(core) == 2 + PAGE_SIZE


@pytest.mark.parametrize("role", ["decode", "prefill"])
def test_what_is_being_read_for_another_prompt_counts_once(role: str) -> None:
    core = core_of(role)
    put(core, work("first", [*SHARED, 400]))
    put(core, work("second", [*SHARED, 401, 402]))
    assert unread(core) == len(SHARED) + 1 + 2
    assert core.look().load.unread_prompts == 2
    core.advance()
    put(core, work("third", [*SHARED, 403]))
    assert unread(core) < len(SHARED)


def test_nothing_is_found_where_log_probabilities_of_the_prompt_are_wanted() -> None:
    core = core_of("prefill")
    put(core, work("first", SHARED))
    while unread(core):
        core.advance()
    put(core, work("scored", SHARED, prompt_logprobs=1))
    assert unread(core) == len(SHARED)


def test_a_promise_is_nothing_to_read() -> None:
    core = make_decode(ManualClock()).core
    core.reserve(LONG)
    assert (core.look().load.waiting_requests, unread(core)) == (1, 0)
