"""Goal: a worker that reports nonsense costs nobody else a decision. Method: reports at the edge of what is let in."""

import math
import random
from dataclasses import replace

import pytest

from common.core.cost.model import COEFFICIENTS, DEFAULT
from common.rpc.convert.worker import MAX_COEFFICIENT_S, MAX_FIGURE, load_from_wire, load_to_wire
from services.router.policy import PolicySettings, choose, choose_prefill
from services.router.view import WorkerView
from tests.router.questions import question

SETTINGS = PolicySettings()


def _strange(worker: WorkerView, rng: random.Random) -> WorkerView:
    """The same worker with figures that no machine has, and that pass for a report all the same."""
    coefficients = {name: rng.choice((MAX_COEFFICIENT_S, 1.0, 5e-324, 0.0)) for name in COEFFICIENTS}
    load = replace(
        worker.load,
        cost=replace(DEFAULT, **coefficients, num_steps=rng.choice((100, 2**63)), age_s=rng.choice((0.0, 1e300))),
        step_seconds=rng.choice((0.0, 5e-324, MAX_FIGURE)),
        waiting_tokens=rng.choice((0, 2**63)),
        waiting_requests=rng.choice((0, 2**31)),
        context_tokens=rng.choice((0, 2**63)),
    )
    assert load_from_wire(load_to_wire(load)) == load, "let in"
    return replace(worker, load=load)


@pytest.mark.parametrize("seed", range(3))
def test_nonsense_of_one_worker_leaves_every_decision_a_number(seed: int) -> None:
    rng = random.Random(seed)
    num_decided = 0
    for _ in range(300):
        facts, view = question(rng)
        if not view.workers:
            continue
        workers = list(view.workers)
        at = rng.randrange(len(workers))
        workers[at] = _strange(workers[at], rng)
        decision = choose(facts, replace(view, workers=tuple(workers)), SETTINGS)
        choose_prefill(facts, replace(view, workers=tuple(workers)), SETTINGS)
        if decision is not None:
            num_decided += 1
            terms = [term for candidate in decision.candidates for term in candidate.terms.values()]
            assert all(math.isfinite(term) for term in terms)
    assert num_decided > 100
