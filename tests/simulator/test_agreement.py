"""The simulator's machines against the cores that serve, request by request: same hits, same times, step for step.

Method: one machine, no network; the production core runs over a simulated executor that takes the cost model's time.
"""

from dataclasses import replace

import pytest

from common.core.cost.model import CostModel
from services.decode import app as decode_app
from services.simulator import writer
from services.simulator.cluster import ClusterShape
from services.simulator.outcome import Outcome
from tests.simulator.plays import hand_over, play, stay
from tests.simulator.served import Seen, decode_alone, prefill_alone
from tests.simulator.workload import PAGE, conversations

COST = CostModel(
    step_s=2e-3,
    extend_token_s=2e-5,
    extend_pair_s=1e-9,
    decode_row_s=1e-4,
    decode_context_s=1e-7,
    transfer_s=0.0,
    transfer_byte_s=0.0,
)
SHAPE = ClusterShape(
    decode=1,
    cache_tokens=400 * PAGE,
    token_bytes=0,
    cost=COST,
    step_tokens=128,
    chunk_tokens=64,
    extend_tokens=32,
    itl_budget_s=0.004,
    max_sequences=64,
    answer_limit=0,
    hop_s=0.0,
)


def compare(outcome: Outcome, seen: list[Seen], *, with_end: bool) -> None:
    assert outcome.num_bounced == 0, "a bounced request came later here than there"
    for index, (mine, theirs) in enumerate(zip(outcome.served, seen, strict=True)):
        assert mine.cached_tokens == theirs.cached, f"request {index}"
        assert mine.first_token == pytest.approx(theirs.first, abs=1e-9), f"request {index}"
        if with_end:
            assert mine.finished == pytest.approx(theirs.last, abs=1e-9), f"request {index}"


@pytest.mark.parametrize("seed", range(4))
def test_a_writer_is_a_decode_core_step_for_step(seed: int) -> None:
    print(f"seed {seed}")
    trace = conversations(seed, every_s=0.02)
    compare(play(trace, SHAPE, stay), decode_alone(trace, SHAPE), with_end=True)


@pytest.mark.parametrize(("seed", "num_answered"), [(0, 120), (2, 120), (1, 200), (3, 200)])
def test_preempted_answers_come_back_as_they_do_on_the_core(
    seed: int, num_answered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once into a pool that has room for the prompts, not for what they grow to."""
    print(f"seed {seed}")
    monkeypatch.setattr(writer, "OVERCOMMIT", 50.0)
    trace = conversations(seed, num_talks=10, num_turns=2, every_s=0.02)
    arrivals = [0.0, *[1e-6] * (len(trace.requests) - 1)]  # the first begins a step, all others come during it
    burst = replace(
        trace,
        requests=tuple(
            replace(each, arrived_s=at, output_tokens=num_answered)
            for each, at in zip(trace.requests, arrivals, strict=True)
        ),
    )
    prompt_pages = sum(each.prompt_tokens // PAGE + 1 for each in burst.requests)
    shape = replace(SHAPE, cache_tokens=(prompt_pages + 2) * PAGE)
    outcome = play(burst, shape, stay)
    assert outcome.machines[0].preemptions > 0
    compare(outcome, decode_alone(burst, shape, overcommit=50.0), with_end=True)


@pytest.mark.parametrize("seed", range(4))
def test_a_reader_is_a_prefill_core_step_for_step(seed: int) -> None:
    print(f"seed {seed}")
    trace = conversations(seed, every_s=0.02)
    trace = replace(trace, requests=tuple(replace(each, output_tokens=1) for each in trace.requests))  # D never busy
    shape = replace(SHAPE, prefill=1)
    compare(play(trace, shape, hand_over), prefill_alone(trace, shape), with_end=False)


def test_what_is_repeated_from_the_composition_root_is_the_same() -> None:
    ours = (writer.OVERCOMMIT, writer.MIN_EXTEND_TOKENS, writer.WATERMARK)
    assert ours == (decode_app.OVERCOMMIT, decode_app.MIN_EXTEND_TOKENS, decode_app.WATERMARK)
