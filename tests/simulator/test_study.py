"""Whole studies: repeatable, fast, with the numbers that a caller reads; and the bars of routing."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from common.core.errors import InvalidRequest
from services.simulator.ceiling import hit_ceiling
from services.simulator.cluster import ClusterShape
from services.simulator.pairs import ratios
from services.simulator.plots import distributions
from services.simulator.policies import PolicyName
from services.simulator.read import read_trace
from services.simulator.report import Slo, Summary
from services.simulator.routing import RoutingReplay
from services.simulator.saturation import speed_for
from services.simulator.study import Study, run_study
from services.simulator.trace import Trace, TraceRequest, in_order
from tests.simulator.workload import PAGE, conversations

TRACE = conversations(1, num_talks=30, num_turns=5, every_s=0.05)
SHAPE = ClusterShape(dual=4, cache_tokens=600 * PAGE, token_bytes=1024)
EVERY = tuple(PolicyName)


def study(**changes: object) -> Study:
    return replace(Study(trace=TRACE, shape=SHAPE, policies=EVERY, seeds=(1, 2)), **changes)  # type: ignore[arg-type]  # tests name fields


@pytest.mark.parametrize("is_routing_only", [True, False])
def test_the_same_study_gives_the_same_numbers(is_routing_only: bool) -> None:
    asked = study(is_routing_only=is_routing_only, policies=(PolicyName.COST_MODEL, PolicyName.ROUND_ROBIN))
    assert list(run_study(asked)) == list(run_study(asked))


@pytest.mark.parametrize("is_routing_only", [True, False])
@pytest.mark.parametrize("roles", [{"dual": 4}, {"dual": 0, "prefill": 2, "decode": 2}])
def test_every_policy_serves_every_request(is_routing_only: bool, roles: dict[str, int]) -> None:
    shape = replace(SHAPE, **roles)  # type: ignore[arg-type]  # counts
    for summary in run_study(study(shape=shape, is_routing_only=is_routing_only)):
        assert summary.num_finished == summary.num_requests - summary.num_refused, summary.policy
        assert summary.num_refused == 0, summary.policy
        assert summary.ttft_s_p50 is not None
        assert 0.0 <= summary.hit_rate <= summary.hit_ceiling + 0.05


@pytest.mark.parametrize("is_routing_only", [True, False])
@pytest.mark.parametrize("roles", [{"dual": 4}, {"dual": 0, "prefill": 2, "decode": 2}])
def test_a_prompt_that_no_machine_can_hold_is_refused_and_holds_nobody_up(
    is_routing_only: bool, roles: dict[str, int]
) -> None:
    """As the router does: a request with more pages than the largest decode worker has would wait for ever."""
    shape = replace(SHAPE, **roles)  # type: ignore[arg-type]  # counts
    middle = TRACE.requests[len(TRACE.requests) // 2]
    long = replace(middle, prompt_tokens=700 * PAGE, pages=tuple(range(10**6, 10**6 + 700)))
    trace = in_order("with a long one", PAGE, (*TRACE.requests, long))
    asked = study(trace=trace, shape=shape, is_routing_only=is_routing_only, seeds=(1,))
    for summary in run_study(asked):
        assert summary.num_refused == 1, summary.policy
        assert summary.num_finished == len(TRACE.requests), summary.policy


@pytest.mark.parametrize("is_routing_only", [True, False])
def test_what_was_not_measured_is_not_told(is_routing_only: bool) -> None:
    """One request has no rate of arrivals; where nothing is read, nothing is found."""
    alone = in_order("one", PAGE, TRACE.requests[:1])
    (summary,) = run_study(
        study(trace=alone, policies=(PolicyName.COST_MODEL,), seeds=(0,), is_routing_only=is_routing_only)
    )
    assert summary.goodput_per_s is None
    assert summary.good_share == 1.0
    tiny = replace(SHAPE, cache_tokens=PAGE)
    (summary,) = run_study(
        study(shape=tiny, policies=(PolicyName.COST_MODEL,), seeds=(0,), is_routing_only=is_routing_only)
    )
    assert summary.num_refused == summary.num_requests
    assert summary.hit_rate == 0.0


def test_restricted_policies_keep_to_their_kind() -> None:
    found = {summary.policy: summary for summary in run_study(study(seeds=(1,)))}
    assert found[PolicyName.ALWAYS_LOCAL].remote_share == 0.0
    assert found[PolicyName.ALWAYS_REMOTE].remote_share == 1.0


def test_a_pool_without_bound_finds_what_repeats() -> None:
    seen: set[int] = set()
    expected = 0
    for request in TRACE.requests:
        found = next((i for i, page in enumerate(request.pages) if page not in seen), len(request.pages))
        expected += min(found * PAGE, request.prompt_tokens - 1)
        seen |= set(request.pages)
    assert hit_ceiling(TRACE, 10**9) == pytest.approx(expected / TRACE.prompt_tokens)
    assert hit_ceiling(TRACE, 0) == 0.0


def test_twice_the_load_is_twice_the_speed() -> None:
    assert speed_for(0.8, TRACE, SHAPE) == pytest.approx(2 * speed_for(0.4, TRACE, SHAPE))


@pytest.mark.parametrize("named", ["", ', "hash_ids": [-1]', ', "hash_ids": [-2]'])
def test_an_answers_pages_are_no_prompts(tmp_path: Path, named: str) -> None:
    """Pages of answers are named by who wrote them; prompts that share nothing, or have names below 0, find none."""
    ask = '{"timestamp": %d, "input_length": %d, "output_length": %d, "chat_id": 1%s}\n'
    (tmp_path / "t.jsonl").write_text(ask % (0, 2, 464, "") + ask % (20, 17, 1, named))
    trace = read_trace(tmp_path / "t.jsonl")
    (summary,) = run_study(
        study(trace=trace, shape=ClusterShape(dual=1), policies=(PolicyName.LEAST_LOAD,), seeds=(0,))
    )
    assert summary.hit_rate == summary.hit_ceiling == 0.0


def test_one_worker_alone_has_a_full_load_too() -> None:
    """Nobody could read for it: a policy that always hands over never places anything, and its play never ended."""
    alone = ClusterShape(dual=1)
    assert speed_for(0.8, TRACE, alone) == pytest.approx(2 * speed_for(0.4, TRACE, alone))


@pytest.mark.timeout(30)
def test_a_prompt_that_fits_a_worker_and_never_gets_a_place_ends_nothing() -> None:
    """Found by chance: a block that follows itself, and eight pages a worker. Its play never ended."""
    lengths = [
        (700, 1),
        (512, 2),
        (511, 1),
        (1091, 450),
        (2913, 1),
        *[(512, 1)] * 2,
        (511, 1),
        (513, 1),
        (512, 1),
        (1, 1),
    ]
    lengths.append((2, 1))
    requests = [
        TraceRequest(
            arrived_s=0.1 * number,
            prompt_tokens=prompt,
            output_tokens=answer,
            pages=(7,) * 5 if prompt == 2913 else tuple(-2 - 10 * number - page for page in range(prompt // 512)),
        )
        for number, (prompt, answer) in enumerate(lengths)
    ]
    tiny = ClusterShape(dual=2, cache_tokens=4096)
    assert speed_for(1.5, in_order("by chance", 512, tuple(requests)), tiny) > 0.0


@pytest.mark.parametrize(
    ("trace", "shape", "why"),
    [
        (replace(TRACE, requests=TRACE.requests[:1]), SHAPE, "came at once"),
        (TRACE, replace(SHAPE, cache_tokens=PAGE), "too few"),
    ],
    ids=["one request", "no room"],
)
def test_a_load_that_cannot_be_set_is_told(trace: Trace, shape: ClusterShape, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        speed_for(0.5, trace, shape)


def test_late_hints_cost_hits_and_predictions_bring_them_back_for_siblings() -> None:
    burst = replace(TRACE, requests=tuple(replace(each, arrived_s=each.arrived_s / 100) for each in TRACE.requests))

    def hits(delay_s: float) -> float:
        (summary,) = run_study(study(trace=burst, policies=(PolicyName.COST_MODEL,), seeds=(1,), hint_delay_s=delay_s))
        return summary.hit_rate

    assert hits(5.0) > 0.5 * hits(0.0), "what was just routed is known without being told"


def test_an_answer_is_good_only_within_both_objectives() -> None:
    (loose,) = run_study(study(policies=(PolicyName.COST_MODEL,), seeds=(1,)))
    (strict,) = run_study(study(policies=(PolicyName.COST_MODEL,), seeds=(1,), slo=Slo(ttft_s=0.0, itl_s=1.0)))
    assert loose.good_share > 0.9
    assert strict.good_share == 0.0


def summary_of(policy: str, seed: int, ttft_s: float) -> Summary:
    (some,) = run_study(study(policies=(PolicyName.ROUND_ROBIN,), seeds=(1,), is_routing_only=True))
    return replace(some, policy=policy, seed=seed, ttft_s_mean=ttft_s, ttft_s_p99=None, itl_s_p99=None)


def test_policies_are_compared_seed_by_seed_with_the_better_rival() -> None:
    figures = {(1, "a"): 1.0, (1, "b"): 2.0, (1, "mine"): 1.1, (2, "a"): 4.0, (2, "b"): 2.0, (2, "mine"): 1.8}
    found = ratios([summary_of(policy, seed, value) for (seed, policy), value in figures.items()], "mine", ("a", "b"))
    ttft = next(ratio for ratio in found if ratio.figure == "ttft_s_mean")
    assert ttft.num_seeds == 2
    assert ttft.mean == pytest.approx((1.1 + 0.9) / 2)
    assert ttft.low < 0.5, "two seeds prove little"
    assert ttft.high > 1.5


def test_whoever_turns_more_requests_away_is_not_the_better_one_unseen() -> None:
    """Times are those of requests that were served: the share of these is compared beside them."""
    served = {"a": 6, "b": 9, "mine": 8}
    found = ratios(
        [replace(summary_of(policy, 1, 1.0), num_requests=10, num_finished=count) for policy, count in served.items()],
        "mine",
        ("a", "b"),
    )
    assert {each.figure: each.mean for each in found}["served_share"] == pytest.approx(8 / 9), "of the better rival's"


def test_distributions_are_thinned_and_ordered() -> None:
    outcome = RoutingReplay("x", lambda facts, view: None, Trace(name="", page_size=PAGE, requests=()), SHAPE).outcome
    assert distributions(outcome) == {"ttft": [], "itl": []}


def test_a_minute_replays_thousands_of_requests() -> None:
    """Of processor time. A tenth of the bars (20,000 with steps, 100,000 without) of docs/simulator.md."""
    for is_routing_only, bar in ((False, 2_000), (True, 10_000)):
        began = time.process_time()
        list(run_study(study(policies=(PolicyName.COST_MODEL,), is_routing_only=is_routing_only)))
        per_minute = 2 * len(TRACE.requests) / (time.process_time() - began) * 60
        assert per_minute > bar, f"{per_minute:.0f} requests a minute"
