"""What passes between steps and between calls: the time that no step's own timing knows of."""

from dataclasses import replace

import pytest

from common.core.cost.model import CostModel
from services.simulator.cluster import ClusterShape
from services.simulator.outcome import Served
from services.simulator.policies import Policy
from services.simulator.trace import Trace, TraceRequest
from tests.simulator.plays import hand_over, play, stay
from tests.simulator.workload import PAGE

STEP_S = 0.1
EVEN = CostModel(
    step_s=STEP_S,
    extend_token_s=0.0,
    extend_pair_s=0.0,
    decode_row_s=0.0,
    decode_context_s=0.0,
    transfer_s=0.0,
    transfer_byte_s=0.0,
    num_steps=1000,
)
"""Every step takes as long, whatever it is for."""
SHAPE = ClusterShape(prefill=1, decode=1, cache_tokens=1000 * PAGE, cost=EVEN, hop_s=0.001)


def played(shape: ClusterShape, policy: Policy, *, count: int) -> list[Served]:
    """Prompts that have nothing in common and come at the same moment."""
    requests = tuple(
        TraceRequest(arrived_s=0.0, prompt_tokens=PAGE, output_tokens=10, pages=(index,)) for index in range(count)
    )
    trace = Trace(name="at once", page_size=PAGE, requests=requests)
    return play(trace, shape, policy).served


@pytest.mark.parametrize("count", [1, 4])
def test_a_turn_takes_as_long_as_there_are_answers_to_tell_of(count: int) -> None:
    """Measured: 13 ms between steps of 23 answers, 24 ms between those of 43."""
    for served in played(replace(SHAPE, turn_s=0.003), stay, count=count):
        assert served.itl_s == pytest.approx(STEP_S + count * 0.003)


def test_a_prefill_worker_has_turns_of_its_own() -> None:
    """It has no answers to tell of."""
    (served,) = played(replace(SHAPE, turn_s=0.003, prefill_turn_s=0.001), hand_over, count=1)
    assert served.read_from is not None
    assert served.first_token == pytest.approx(served.read_from + STEP_S + 0.001 + SHAPE.hop_s)
    (served,) = played(replace(SHAPE, turn_s=0.003), hand_over, count=1)
    assert served.read_from is not None
    assert served.first_token == pytest.approx(served.read_from + STEP_S + 0.003 + SHAPE.hop_s)


def test_of_calls_that_one_step_sets_free_only_the_first_finds_an_idle_worker() -> None:
    """Both prompts are promised their pages at once. One router calls for one after the other: the first begins a step,
    and the second waits for its end."""
    together = played(SHAPE, hand_over, count=2)
    assert together[0].read_from == together[1].read_from
    first, second = played(replace(SHAPE, call_s=0.001), hand_over, count=2)
    assert first.read_from is not None
    assert second.read_from == pytest.approx(first.read_from + STEP_S)
