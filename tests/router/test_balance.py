"""Goal: reading is evened out among those who read as fast, and nobody is made to catch up with who writes nothing.
Method: the least of every peer, pair by pair; and small fleets whose timings are known."""

import random
from dataclasses import replace

import pytest

from common.core.ids import Epoch, WorkerId, WorkerRef
from common.core.worker import Role
from services.router.policy.balance import SHORTEST_S, Pace, least_recent, token_s
from tests.router.test_policy_costs import decide, facts, view
from tests.router.test_policy_writing import COST, SETTINGS, dual


def paces(seed: int) -> list[Pace]:
    rng = random.Random(seed)
    return [
        Pace(
            token_s=rng.choice((0.0, 4e-5, 4e-5, rng.random() * 1e-3)),
            best_token_s=rng.choice((0.0, 4e-5)),
            queue_s=rng.choice((0.0, 0.0, rng.random() * 3)),
            recent_tokens=rng.choice((0.0, rng.random() * 1e5)),
            worker=WorkerRef(WorkerId(f"w{number}"), Epoch(1), f"host-{number}:1"),
        )
        for number in range(rng.randint(1, 9))
    ]


@pytest.mark.parametrize("seed", range(200))
def test_a_peer_counts_as_it_would_have_read_at_the_workers_own_pace_and_what_it_has_to_read_first(seed: int) -> None:
    fleet = paces(seed)

    def as_seen(own: Pace, each: Pace) -> float:
        slower = max(1.0, each.token_s / max(own.token_s, SHORTEST_S))
        return each.recent_tokens * slower + max(0.0, each.queue_s - own.queue_s) / max(own.best_token_s, SHORTEST_S)

    found = least_recent(fleet)
    assert found == pytest.approx({own.worker: min(as_seen(own, each) for each in fleet) for own in fleet})
    assert all(found[own.worker] <= own.recent_tokens for own in fleet)


def test_among_hundreds_a_few_are_looked_at_and_nobody_is_thought_busier_than_it_is() -> None:
    """Those who were given least come first, and each worker knows itself."""
    rng = random.Random(1)
    numbers = [(rng.random() * 1e-3, rng.random() * 1e5, rng.random()) for _ in range(400)]
    fleet = [
        Pace(token_s, 4e-5, recent, queue_s, WorkerRef(WorkerId(f"w{n:03}"), Epoch(1), f"host-{n}:1"))
        for n, (token_s, recent, queue_s) in enumerate(numbers)
    ]
    found = least_recent(fleet)
    least = min(pace.recent_tokens for pace in fleet)
    assert all(least <= found[pace.worker] <= pace.recent_tokens for pace in fleet)


def test_a_worker_reads_more_slowly_the_more_answers_it_has() -> None:
    """2,048 tokens a step alone, what 50 ms leave beside answers."""
    found = [token_s(dual("d0", running), COST, SETTINGS, 16) for running in (0, 1, 40)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(COST.extend_token_s + COST.step_s / 2048)
    prefill = view("p0", Role.PREFILL, cost=COST)
    assert token_s(prefill, COST, SETTINGS, 16) == found[0]


def test_who_writes_everything_is_not_made_to_read_as_much_as_the_others() -> None:
    """d2 has all answers, which take half of its steps, a queue as long as the others', and was given half of their
    tokens lately."""
    queue = {"pending_tokens": 60_000, "pending_prompts": 3, "cost": replace(COST, decode_row_s=5e-4)}
    readers = [dual(f"d{n}", 0, recent_tokens=200_000.0, **queue) for n in range(2)]
    writer = dual("d2", 45, recent_tokens=100_000.0, in_flight=48, **queue)
    decision = decide(facts(20_000), *readers, writer, settings=SETTINGS)
    assert decision.route.reader != writer.worker
    terms = {str(each.route): each.terms.get("balance") for each in decision.candidates}
    assert terms[f"d0>{writer.worker.worker}"] == 0.0


def test_equals_are_evened_out() -> None:
    least, most = dual("d0", 1, recent_tokens=1_000.0), dual("d1", 1, recent_tokens=51_000.0)
    decision = decide(facts(20_000), least, most, settings=SETTINGS)
    terms = {str(each.route): each.terms["balance"] for each in decision.candidates if each.route.prefill is None}
    assert terms == {"local:d0": 0.0, "local:d1": pytest.approx(0.75 * COST.extend_token_s * 50_000)}


def test_who_was_given_less_and_has_more_to_read_is_not_caught_up_with() -> None:
    """Balance alone would send it to d1: 30 thousand tokens fewer lately. It has two seconds more to read than d0."""
    cost = {"cost": COST, "pending_prompts": 3}
    free = dual("d0", 0, recent_tokens=130_000.0, pending_tokens=1_000, **cost)
    queued = dual("d1", 0, recent_tokens=100_000.0, pending_tokens=50_000, **cost)
    terms = {str(each.route): each.terms for each in decide(facts(2_000), free, queued, settings=SETTINGS).candidates}
    assert terms["local:d0"]["balance"] == 0.0
    idle = replace(queued, pending_tokens=1_000)
    terms = {str(each.route): each.terms for each in decide(facts(2_000), free, idle, settings=SETTINGS).candidates}
    assert terms["local:d0"]["balance"] == pytest.approx(0.75 * COST.extend_token_s * 30_000)
