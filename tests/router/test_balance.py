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
            recent_tokens=rng.choice((0.0, rng.random() * 1e5)),
            worker=WorkerRef(WorkerId(f"w{number}"), Epoch(1), f"host-{number}:1"),
        )
        for number in range(rng.randint(1, 9))
    ]


@pytest.mark.parametrize("seed", range(50))
def test_a_slower_peer_counts_as_it_would_have_read_at_the_workers_own_pace(seed: int) -> None:
    fleet = paces(seed)

    def least(own: Pace) -> float:
        own_s = max(own.token_s, SHORTEST_S)
        return min(each.recent_tokens * max(1.0, each.token_s / own_s) for each in fleet)

    found = least_recent(fleet)
    assert found == pytest.approx({own.worker: least(own) for own in fleet})
    assert all(found[own.worker] <= own.recent_tokens for own in fleet)


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
