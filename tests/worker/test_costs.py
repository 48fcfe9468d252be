"""Goal: what a worker publishes of its own timings. Method: steps and totals made by hand, a clock that is moved."""

from dataclasses import replace

import pytest

from common.core.clock import ManualClock
from common.core.cost.meter import CostStage
from common.core.cost.work import StepWork
from common.core.worker import LoadReport, PageCounts
from common.engine.telling import Stepped
from common.observe import catalogue
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.transfer.counters import TransferCounters
from common.worker.costs import WorkerCosts

LOAD = LoadReport(pages=PageCounts(total=0, free=0, promised=0, referenced=0, cached=0))


def stepped(rows: int, seconds: float) -> Stepped:
    work = StepWork(decode_rows=rows, decode_context=100 * rows)
    return Stepped(num_rows=rows, num_tokens=rows, work=work, seconds=seconds)


def test_a_worker_that_did_nothing_publishes_no_model() -> None:
    costs = WorkerCosts(Metrics(ProcessRole.DECODE), ManualClock())
    assert costs.priced(LOAD).cost is None


def test_a_worker_publishes_what_its_steps_took_and_how_long_ago() -> None:
    clock, metrics = ManualClock(), Metrics(ProcessRole.DECODE)
    costs = WorkerCosts(metrics, clock)
    for at in range(200):
        costs.stepped(stepped(1 + at % 8, 0.01 + 0.002 * (1 + at % 8)))
    clock.advance(3.0)
    model = costs.priced(LOAD).cost
    assert model is not None
    assert model.decode_step_seconds(4, 400) == pytest.approx(0.018, rel=0.05)
    assert model.age_s == 3.0
    costs.show()
    assert metrics.value(catalogue.COST_STEPS) == model.num_steps
    assert metrics.value(catalogue.COST_AGE) == 3.0
    assert metrics.value(catalogue.COST_ERROR, stage=CostStage.DECODE) < 0.05


def test_transfers_are_learnt_from_the_growth_of_their_totals() -> None:
    costs = WorkerCosts(Metrics(ProcessRole.PREFILL), ManualClock())
    counters = TransferCounters()
    for at in range(50):
        costs.stepped(stepped(1, 0.01))
        for _ in range(at % 3):
            counters.of("gloo").moved(4, 1_000_000, 0.003)
        costs.moved(counters.snapshot())
    model = costs.priced(LOAD).cost
    assert model is not None
    assert model.transfer_seconds(1_000_000) == pytest.approx(0.003, rel=0.1)


def test_an_empty_step_teaches_nothing() -> None:
    costs = WorkerCosts(Metrics(ProcessRole.DECODE), ManualClock())
    for _ in range(50):
        costs.stepped(replace(stepped(1, 0.01), num_rows=0))
    assert costs.priced(LOAD).cost is None
