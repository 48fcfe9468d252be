"""Goal: an answer is written where it slows reading least. Method: as in test_policy_costs, small fleets whose timings
are known."""

from dataclasses import replace

import pytest

from common.core.cost.model import CostModel
from common.core.worker import Role
from services.router.policy import Decision, PolicySettings, Routes
from services.router.policy.scene import make_scene
from services.router.policy.writing import lost_reading_s
from services.router.recent import RECENT_S
from services.router.view import FleetView, WorkerView
from tests.router.test_policy_costs import decide, facts, view

COST = CostModel(
    step_s=5e-3,
    extend_token_s=4e-5,
    extend_pair_s=0.0,
    decode_row_s=4e-5,
    decode_context_s=4e-8,
    transfer_s=2e-3,
    transfer_byte_s=2e-11,
    num_steps=1000,
)
SETTINGS = PolicySettings(extend_tokens=2048, idle_extend_tokens=2048, prefill_chunk_tokens=2048)
BUSY_TOKENS = 0.9 * RECENT_S / COST.extend_token_s


def dual(
    name: str, running: int, *, recent_tokens: float = BUSY_TOKENS, cost: CostModel = COST, **fields: object
) -> WorkerView:
    return view(name, Role.DECODE, is_dual=True, running=running, recent_tokens=recent_tokens, cost=cost, **fields)


def lost_s(worker: WorkerView, settings: PolicySettings = SETTINGS) -> float:
    scene = make_scene(facts(2000), FleetView(workers=(worker,)), settings)
    return lost_reading_s(worker, COST.decode_step_seconds(worker.num_answers + 1, 2000), scene)


def test_the_first_answer_costs_a_reader_most_and_each_further_one_less() -> None:
    found = [lost_s(dual("d0", running)) for running in range(4)]
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(4 * found[3], rel=0.1)


def test_who_reads_nothing_loses_nothing_and_who_reads_more_loses_more() -> None:
    assert lost_s(dual("d0", 0, recent_tokens=0.0)) == 0.0
    assert lost_s(dual("d0", 0)) > 2 * lost_s(dual("d0", 0, recent_tokens=BUSY_TOKENS / 2)) > 0.0


def test_nothing_is_lost_where_all_prompts_are_read_by_who_writes_their_answers() -> None:
    assert lost_s(dual("d0", 0)) > 0.0
    assert lost_s(dual("d0", 0), replace(SETTINGS, routes=Routes.LOCAL)) == 0.0


def test_the_loss_is_that_of_smaller_chunks() -> None:
    """2,048 tokens a step alone, 1,121 beside one answer of 2,000 tokens, for 256 tokens of 50 ms, a tenth of 5."""
    beside_s = COST.extend_token_s + (5e-3 + 1.2e-4) / 1122
    lasts_s = 256 * (0.9 * 0.05 + 0.1 * COST.decode_step_seconds(1, 2000))
    lost = 1 - (COST.extend_token_s + 5e-3 / 2048) / beside_s
    assert lost_s(dual("d0", 0)) == pytest.approx(0.9 * lasts_s * lost, rel=1e-3)


def test_answers_gather_where_prompts_wait_and_do_not_where_none_does() -> None:
    """The reader is the same, d0 has no answer and d1 three."""

    def writer(num_waiting: int) -> str:
        workers = [dual(name, n) for name, n in (("d0", 0), ("d1", 3))]
        queues = [dual(f"d{n}", 0, pending_prompts=num_waiting, pending_tokens=9000 * num_waiting) for n in (4, 5, 6)]
        reader = dual("d2", 0, recent_tokens=0.0)
        held = facts(2000, hits={reader.worker.worker: 1984})
        settings = replace(SETTINGS, routes=Routes.REMOTE)
        return str(decide(held, *workers, *queues, reader, settings=settings).route)

    assert writer(0) == "d2>d0"
    assert writer(12) == "d2>d1"


def test_an_answer_does_not_begin_where_a_long_prompt_is_still_read() -> None:
    """d0 has no answer, d1 has eighty; d0 will read for half a minute, or no longer than the prompt takes elsewhere."""
    settings = replace(SETTINGS, routes=Routes.REMOTE)

    def decided(backlog_tokens: int) -> Decision:
        reader = view("p0", Role.PREFILL, cost=COST)
        pending = {"pending_tokens": backlog_tokens, "pending_prompts": 1 if backlog_tokens else 0}
        return decide(
            facts(2000),
            dual("d0", 0, recent_tokens=0.0, **pending),
            dual("d1", 80, recent_tokens=0.0),
            reader,
            settings=settings,
        )

    def beside_s(decision: Decision) -> dict[str, float | None]:
        return {str(each.route): each.terms.get("beside") for each in decision.candidates}

    idle, short, long = decided(0), decided(1000), decided(600_000)
    assert str(idle.route) == str(short.route) == "p0>d0"
    assert beside_s(idle)["p0>d0"] == beside_s(short)["p0>d0"] == 0.0, "read by then"
    assert str(long.route) == "p0>d1"
    assert beside_s(long)["p0>d1"] == 0.0


def test_beside_a_prompt_tokens_come_slowly_and_the_prompt_is_read_in_smaller_chunks() -> None:
    """No longer than the answer lasts: 256 tokens of 50 ms."""
    d0 = dual("d0", 0, recent_tokens=0.0, pending_tokens=600_000, pending_prompts=1)
    decision = decide(
        facts(2000), d0, view("p0", Role.PREFILL, cost=COST), settings=replace(SETTINGS, routes=Routes.REMOTE)
    )
    step_s, meets_s = decision.chosen.itl_s, 256 * 0.05
    lost = 1 - (COST.extend_token_s + 5e-3 / 2048) / (COST.extend_token_s + (5e-3 + 1.2e-4) / 1122)
    expected = SETTINGS.write_weight * meets_s * (1 - step_s / 0.05) + meets_s * lost
    assert decision.chosen.terms["beside"] == pytest.approx(expected, rel=1e-3)


def test_timings_without_a_cost_per_token_lose_nothing() -> None:
    free = replace(COST, step_s=0.0, extend_token_s=0.0)
    assert lost_s(dual("d0", 2, cost=free)) == 0.0


def test_an_answer_is_as_long_as_those_of_late_and_never_longer_than_asked_for() -> None:
    """For its own writing. A worker that begins to write goes on with it whatever one answer's length is."""

    def terms(**wanted: int) -> dict[str, float]:
        queue = {"pending_prompts": 2, "pending_tokens": 20_000}
        workers = [dual(name, 1, **queue) for name in ("d0", "d1")]
        return decide(replace(facts(2000), **wanted), *workers, settings=SETTINGS).chosen.terms

    untold, short, long = terms(), terms(answer_tokens=16), terms(answer_tokens=1024)
    assert untold["write"] == pytest.approx(16 * short["write"]) == pytest.approx(long["write"] / 4)
    assert terms(answer_tokens=1024, max_tokens=256)["write"] == untold["write"]
    assert untold["slows"] == short["slows"] == long["slows"] > 0.0
    assert terms(max_tokens=16)["slows"] < untold["slows"]
