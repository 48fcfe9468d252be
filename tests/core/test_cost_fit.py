"""Goal: coefficients that follow the machine. Method: made-up machines with noise, outliers and changes of speed."""

import random

import pytest

from common.core.cost.meter import CostMeter, CostStage
from common.core.cost.model import COEFFICIENTS, DEFAULT, CostModel
from common.core.cost.work import StepWork, extend_pairs
from services.decode.budget import ExtendBudget

GPU = CostModel(
    step_s=4e-3,
    extend_token_s=2e-5,
    extend_pair_s=3e-10,
    decode_row_s=4e-5,
    decode_context_s=3e-8,
    transfer_s=5e-4,
    transfer_byte_s=1e-10,
)

SHARED = CostModel(
    step_s=9e-3,
    extend_token_s=1e-3,
    extend_pair_s=1.5e-7,
    decode_row_s=1.5e-3,
    decode_context_s=5e-7,
    transfer_s=5e-4,
    transfer_byte_s=1e-10,
)
"""A small model on one core: measured beside a process that also computes."""


def decode_work(rng: random.Random) -> StepWork:
    rows = rng.randint(1, 64)
    return StepWork(decode_rows=rows, decode_context=rows * rng.randint(50, 4000))


def extend_work(rng: random.Random) -> StepWork:
    new, cached, rows = rng.randint(2, 512), rng.randint(0, 16_000), rng.randint(0, 32)
    return StepWork(
        extend_tokens=new,
        extend_pairs=extend_pairs(new, cached),
        decode_rows=rows,
        decode_context=rows * rng.randint(50, 4000),
    )


def run(
    meter: CostMeter, machine: CostModel, works: list[StepWork], rng: random.Random, *, outliers: float = 0
) -> None:
    for at, work in enumerate(works):
        seconds = machine.step_seconds(work) * rng.gauss(1.0, 0.03)
        if rng.random() < outliers:
            seconds *= rng.choice((5.0, 50.0))
        meter.stepped(work, max(seconds, 1e-6), float(at))


def miss(meter: CostMeter, machine: CostModel, works: list[StepWork]) -> float:
    """Median relative error over work that was not learnt from."""
    model = meter.model(0.0)
    misses = sorted(abs(model.step_seconds(work) / machine.step_seconds(work) - 1.0) for work in works)
    return misses[len(misses) // 2]


@pytest.mark.parametrize("machine", [GPU, DEFAULT])
@pytest.mark.parametrize("outliers", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(3))
def test_predictions_come_within_a_few_percent_whatever_the_machine(
    machine: CostModel, outliers: float, seed: int
) -> None:
    rng = random.Random(seed)
    meter = CostMeter()
    run(meter, machine, [rng.choice((decode_work, extend_work))(rng) for _ in range(600)], rng, outliers=outliers)
    assert miss(meter, machine, [decode_work(rng) for _ in range(99)]) < 0.06
    assert miss(meter, machine, [extend_work(rng) for _ in range(99)]) < 0.06


def test_slow_first_steps_leave_no_trace() -> None:
    rng = random.Random(1)
    cold, warm = CostMeter(), CostMeter()
    works = [decode_work(rng) for _ in range(40)]
    for meter, slowness in ((cold, 300.0), (warm, 1.0)):
        for at, work in enumerate(works):
            meter.stepped(work, GPU.step_seconds(work) * (slowness if at < 3 else 1.0), float(at))
    assert cold.model(0.0) == warm.model(0.0)


def test_a_machine_that_becomes_slower_is_followed() -> None:
    rng = random.Random(2)
    slower = CostModel(**{name: 2.5 * getattr(GPU, name) for name in COEFFICIENTS})
    meter = CostMeter()
    run(meter, GPU, [decode_work(rng) for _ in range(2000)], rng)
    run(meter, slower, [decode_work(rng) for _ in range(1000)], rng)
    assert miss(meter, slower, [decode_work(rng) for _ in range(99)]) < 0.15


@pytest.mark.parametrize("seed", range(4))
def test_what_a_busy_neighbour_adds_is_in_the_sum_of_predictions(seed: int) -> None:
    """Now and then for a while every step takes two and a half times as long, and a budget grants prompts what fits
    then: fewer tokens in slow steps. Over all, as many seconds are predicted as were spent, and reading is not thought
    cheap."""
    rng, meter, mine = random.Random(seed), CostMeter(), SHARED
    budget = ExtendBudget(itl_budget_s=0.05, ceiling=64, floor=8)
    now, pace, until, start, left = 0.0, 1.0, 0.0, 0, 0
    spent: list[tuple[StepWork, float]] = []
    for _ in range(1500):
        if now >= until:
            pace, until = rng.choice((1.0, 2.5)), now + rng.uniform(0.1, 1.0)
        if not left and rng.random() < 0.03:
            start, left = 0, rng.randint(40, 1500)
        rows = rng.randint(1, 8)
        tokens = min(left, budget.tokens(rows))
        work = StepWork(
            extend_tokens=tokens,
            extend_pairs=extend_pairs(tokens, start) if tokens else 0,
            decode_rows=rows,
            decode_context=rows * rng.randint(100, 900),
        )
        seconds = mine.step_seconds(work) * pace * rng.gauss(1.0, 0.05)
        meter.stepped(work, seconds, now)
        budget.observe(num_decoding=rows, num_extended=tokens, seconds=seconds)
        spent.append((work, seconds))
        now, start, left = now + seconds, start + tokens, left - tokens
    model = meter.model(now)
    said = sum(model.step_seconds(work) for work, _ in spent)
    assert said == pytest.approx(sum(seconds for _, seconds in spent), rel=0.15)
    assert model.extend_seconds(1000) > 1.1 * mine.extend_seconds(1000)


def test_many_decode_steps_do_not_erase_what_an_extend_costs() -> None:
    rng = random.Random(3)
    meter = CostMeter()
    run(meter, GPU, [extend_work(rng) for _ in range(200)], rng)
    run(meter, GPU, [decode_work(rng) for _ in range(5000)], rng)
    assert miss(meter, GPU, [extend_work(rng) for _ in range(99)]) < 0.06


def test_what_was_never_seen_keeps_the_proportions_of_the_prior() -> None:
    """A decode worker that never extended: its extend estimate is scaled with the speed that its decode steps show."""
    rng = random.Random(4)
    fast = CostModel(**{name: getattr(DEFAULT, name) / 50 for name in COEFFICIENTS})
    meter = CostMeter()
    run(meter, fast, [decode_work(rng) for _ in range(300)], rng)
    assert miss(meter, fast, [extend_work(rng) for _ in range(99)]) < 0.25


@pytest.mark.parametrize("num_answers", [1, 4])
def test_who_always_wrote_few_answers_is_not_thought_unable_to_write_many(num_answers: int) -> None:
    """Rows and the step itself cannot be told apart then. A worker that is thought eight times as dear as its peers
    gets no work, and never learns."""
    rng, meter = random.Random(6), CostMeter()
    works = [StepWork(decode_rows=num_answers, decode_context=num_answers * (500 + at)) for at in range(200)]
    run(meter, GPU, works, rng)
    many = StepWork(decode_rows=64, decode_context=64 * 700)
    assert meter.model(0.0).step_seconds(many) < 2 * GPU.step_seconds(many)


@pytest.mark.parametrize("seed", range(5))
def test_coefficients_are_never_negative(seed: int) -> None:
    """Durations that no model explains: CostModel itself refuses a negative or infinite coefficient."""
    rng = random.Random(seed)
    meter = CostMeter()
    for at in range(500):
        meter.stepped(rng.choice((decode_work, extend_work))(rng), rng.choice((1e-6, 1.0, 100.0)), float(at))
        meter.moved(1, rng.randint(0, 10**9), rng.choice((1e-6, 10.0)))
        assert meter.model(float(at)).num_steps >= 0


def test_what_is_no_duration_is_not_believed() -> None:
    meter = CostMeter()
    for seconds in (0.0, -1.0, float("nan"), float("inf")):
        for _ in range(10):
            meter.stepped(StepWork(decode_rows=1), seconds, 0.0)
    assert meter.model(0.0).is_default


def test_the_error_tells_how_far_off_predictions_were() -> None:
    rng = random.Random(5)
    good, bad = CostMeter(), CostMeter()
    run(good, GPU, [decode_work(rng) for _ in range(500)], rng)
    for at in range(500):
        work = decode_work(rng)
        bad.stepped(work, GPU.step_seconds(work) * rng.choice((0.3, 3.0)), float(at))
    assert good.error(CostStage.DECODE) < 0.06
    assert bad.error(CostStage.DECODE) > 0.4
    assert good.model(0.0).error == good.error(CostStage.DECODE)


def test_transfers_learn_a_fixed_part_and_a_rate() -> None:
    rng = random.Random(6)
    meter = CostMeter()
    run(meter, GPU, [decode_work(rng) for _ in range(20)], rng)
    for _ in range(300):
        moves, num_bytes = rng.randint(1, 5), rng.randint(10_000, 200_000_000)
        meter.moved(moves, num_bytes, (moves * GPU.transfer_s + GPU.transfer_byte_s * num_bytes) * rng.gauss(1.0, 0.05))
    model = meter.model(0.0)
    assert model.transfer_seconds(10**8) == pytest.approx(GPU.transfer_seconds(10**8), rel=0.05)
    assert model.transfer_seconds(0) == pytest.approx(GPU.transfer_seconds(0), rel=0.5)
