"""Goal: predicted costs decide, and say whose they are. Method: small fleets whose timings are known."""

import random
from dataclasses import replace

import pytest

from common.core.cost.model import DEFAULT, CostModel
from common.core.ids import WorkerId
from common.core.request import Priority
from common.core.worker import Role
from services.router.classify import Facts
from services.router.policy import Decision, PolicySettings, Routes, choose
from services.router.policy.pricing import CostSource
from services.router.policy.reading import read_on, with_lateness
from services.router.policy.scene import make_scene
from services.router.view import FleetView, WorkerView
from tests.router.build import load, worker_view

FITTED = replace(DEFAULT, num_steps=1000)
SETTINGS = PolicySettings()


def facts(context: int = 1000, **fields: object) -> Facts:
    return Facts(context_tokens=context, num_choices=1, page_size=16, **fields)  # type: ignore[arg-type]


def view(name: str, role: Role, *, cost: CostModel | None = FITTED, running: int = 0, **fields: object) -> WorkerView:
    report = replace(load(9000, 9000, running_sequences=running), cost=cost)
    return worker_view(name, role, load=report, **fields)


P1 = view("p1", Role.PREFILL)


def decide(wanted: Facts, *workers: WorkerView, settings: PolicySettings = SETTINGS, **fleet: object) -> Decision:
    decision = choose(wanted, FleetView(workers=workers, **fleet), settings)  # type: ignore[arg-type]
    assert decision is not None
    return decision


def test_a_long_prompt_goes_where_it_holds_up_nobody() -> None:
    decision = decide(facts(2000), view("d0", Role.DECODE, running=8), view("p0", Role.PREFILL))
    assert str(decision.route) == "p0>d0"
    local = next(each for each in decision.candidates if each.route.prefill is None)
    assert local.terms["neighbours"] > decision.chosen.terms["neighbours"]


def test_a_short_prompt_is_not_worth_a_hand_over() -> None:
    assert str(decide(facts(20), view("d0", Role.DECODE), view("p0", Role.PREFILL)).route) == "local:d0"


def test_a_prefill_worker_with_a_long_queue_loses_to_an_idle_decode_worker() -> None:
    busy = view("p0", Role.PREFILL, pending_tokens=60_000)
    assert str(decide(facts(2000), view("d0", Role.DECODE), busy).route) == "local:d0"


def test_a_slower_machine_is_seen_as_slower() -> None:
    slow = replace(FITTED, extend_token_s=20 * DEFAULT.extend_token_s)
    workers = (view("d0", Role.DECODE, running=8), view("p0", Role.PREFILL, cost=slow), view("p1", Role.PREFILL))
    assert str(decide(facts(2000), *workers).route) == "p1>d0"


@pytest.mark.parametrize(
    ("cost", "silent_s", "source"),
    [
        (FITTED, 0.0, CostSource.OWN),
        (replace(FITTED, num_steps=3), 0.0, CostSource.PEERS),
        (replace(FITTED, age_s=1e6), 0.0, CostSource.PEERS),
        (None, 0.0, CostSource.PEERS),
    ],
)
def test_a_model_that_is_missing_or_stale_is_replaced_and_it_is_said(
    cost: CostModel | None, silent_s: float, source: CostSource
) -> None:
    p0 = view("p0", Role.PREFILL, cost=cost, silent_s=silent_s)
    p1 = view("p1", Role.PREFILL, pending_tokens=50_000)
    decision = decide(facts(2000), view("d0", Role.DECODE, running=8), p0, p1)
    assert str(decision.route) == "p0>d0"
    assert decision.chosen.cost_source is source


def test_where_nobody_has_timings_the_default_is_used() -> None:
    decision = decide(facts(2000), view("d0", Role.DECODE, cost=None), view("p0", Role.PREFILL, cost=None))
    assert {each.cost_source for each in decision.candidates} == {CostSource.DEFAULT}


def test_a_decode_worker_is_not_filled_beyond_its_class_time_between_tokens() -> None:
    slow = replace(FITTED, decode_row_s=0.02)
    full = view("d0", Role.DECODE, cost=slow, running=6)
    fleet = FleetView(workers=(full,))
    assert choose(facts(priority=Priority.INTERACTIVE), fleet, SETTINGS) is None
    assert choose(facts(priority=Priority.BATCH), fleet, SETTINGS) is not None
    few = FleetView(workers=(view("d0", Role.DECODE, cost=slow, running=2),))
    assert choose(facts(priority=Priority.INTERACTIVE), few, SETTINGS) is not None


def test_a_worker_kept_for_a_class_serves_no_other() -> None:
    kept = view("d0", Role.DECODE, pool="batch")
    other = view("d1", Role.DECODE, running=10)
    assert decide(facts(priority=Priority.STANDARD), kept, other).route.decode == other.worker
    assert decide(facts(priority=Priority.BATCH), kept, other).route.decode == kept.worker


def test_a_full_worker_without_places_is_no_candidate() -> None:
    full = view("d0", Role.DECODE, running=4)
    full = replace(full, load=replace(full.load, max_sequences=4))
    assert choose(facts(), FleetView(workers=(full,)), SETTINGS) is None


def test_the_cheapest_reader_is_waited_for_when_it_refused_a_moment_ago() -> None:
    refused = view("p0", Role.PREFILL, has_room=False)
    fleet = FleetView(workers=(view("d0", Role.DECODE, running=40), refused))
    assert choose(facts(4000), fleet, SETTINGS) is None


def test_balance_counts_where_queues_are_equal() -> None:
    d0, p1 = view("d0", Role.DECODE, running=8), view("p1", Role.PREFILL)
    loaded = view("p0", Role.PREFILL, recent_tokens=50_000.0, recent_at=0.0)
    assert str(decide(facts(2000), d0, loaded, p1).route) == "p1>d0"
    assert str(decide(facts(2000), d0, loaded, p1, now=1e6).route) == "p0>d0", "it fades"


def test_a_hit_is_taken_unless_its_holder_is_far_behind() -> None:
    hits = {WorkerId("p0"): 3000}
    d0, p1 = view("d0", Role.DECODE, running=8), view("p1", Role.PREFILL)
    assert str(decide(facts(4000, hits=hits), d0, view("p0", Role.PREFILL), p1).route) == "p0>d0"
    behind = view("p0", Role.PREFILL, pending_tokens=100_000)
    assert str(decide(facts(4000, hits=hits), d0, behind, p1).route) == "p1>d0"


def test_only_missing_pages_are_paid_for() -> None:
    workers = (view("d0", Role.DECODE, running=8), view("d1", Role.DECODE, running=8), view("p0", Role.PREFILL))
    remote = PolicySettings(routes=Routes.REMOTE)
    decision = decide(facts(4000, hits={WorkerId("d1"): 2000}), *workers, settings=remote, page_bytes=50_000_000)
    assert str(decision.route) == "p0>d1"


def test_pages_are_fetched_only_where_workers_can() -> None:
    hits = {WorkerId("p0"): 3900}
    busy, free = view("p0", Role.PREFILL, pending_tokens=100_000), view("p1", Role.PREFILL)
    d0 = view("d0", Role.DECODE, running=20)
    assert decide(facts(4000, hits=hits), d0, busy, free).route.source is None
    decision = decide(facts(4000, hits=hits), d0, busy, free, can_fetch=True, page_bytes=65_536)
    assert str(decision.route) == "p1>d0<p0"


def test_a_worker_that_does_both_reads_for_others_but_not_for_itself_remotely() -> None:
    both = (view("w0", Role.DECODE, is_dual=True), view("w1", Role.DECODE, is_dual=True))
    routes = {str(each.route) for each in decide(facts(), *both).candidates}
    assert routes == {"local:w0", "local:w1", "w0>w1", "w1>w0"}


def test_a_silent_worker_is_suspected() -> None:
    quiet = view("d0", Role.DECODE, silent_s=1.9)
    assert decide(facts(20), quiet, view("d1", Role.DECODE, running=2)).route.decode.worker == "d1"


def test_a_prompt_that_nobody_holds_joins_the_shortest_queue_and_a_held_one_waits_a_while_for_its_holder() -> None:
    d0 = view("d0", Role.DECODE, running=8)
    late = view("p0", Role.PREFILL, pending_tokens=5_000, pending_prompts=10)
    free = view("p1", Role.PREFILL)
    queue = {str(each.route): each.terms for each in decide(facts(4000), d0, late, free).candidates}
    assert queue["p0>d0"]["late"] > 0
    assert str(decide(facts(4000), d0, late, free).route) == "p1>d0"
    held = decide(facts(4000, hits={WorkerId("p0"): 3900}), d0, late, free)
    assert {str(each.route): each.terms for each in held.candidates}["p0>d0"]["late"] == 0
    assert str(held.route) == "p0>d0"


def test_who_has_as_much_and_is_sooner_leaves_no_reason_to_wait() -> None:
    d0 = view("d0", Role.DECODE, running=8)
    late = view("p0", Role.PREFILL, pending_tokens=5_000, pending_prompts=10)
    hits = {WorkerId("p0"): 3900, WorkerId("p1"): 3900}
    terms = {str(each.route): each.terms for each in decide(facts(4000, hits=hits), d0, late, P1).candidates}
    assert terms["p0>d0"]["late"] == pytest.approx(terms["p0>d0"]["queue"] / SETTINGS.queue_weight)
    assert terms["p1>d0"]["late"] == 0


def test_a_reader_without_the_prompt_is_not_waited_for_because_another_has_it() -> None:
    d0 = view("d0", Role.DECODE, running=8)
    late = view("p0", Role.PREFILL, pending_tokens=5_000, pending_prompts=10)
    terms = {
        str(each.route): each.terms
        for each in decide(facts(4000, hits={WorkerId("p1"): 3900}), d0, late, P1).candidates
    }
    assert terms["p0>d0"]["late"] > 0


@pytest.mark.parametrize("seed", range(20))
def test_lateness_is_the_most_that_anybody_is_sooner_by_beyond_what_its_hit_falls_short(seed: int) -> None:
    """Against the definition, pair by pair: what is computed looks at each reader twice."""
    chance = random.Random(seed)
    workers = [view(f"p{n}", Role.PREFILL, pending_tokens=chance.choice((0, 900, 5_000, 20_000))) for n in range(8)]
    hits = {worker.worker.worker: chance.choice((0, 16, 1600, 3999)) for worker in workers}
    scene = make_scene(facts(4000, hits=hits), FleetView(workers=tuple(workers)), SETTINGS)
    readings = with_lateness({worker.worker: read_on(worker, scene) for worker in workers}, scene)
    worth_s = {worker.worker: SETTINGS.patience_s * hits[worker.worker.worker] / 4000 for worker in workers}
    for ref, reading in readings.items():
        sooner = [
            reading.queue_s - other.queue_s - max(0.0, worth_s[ref] - worth_s[each]) for each, other in readings.items()
        ]
        assert reading.terms["late"] == pytest.approx(max(sooner))


@pytest.mark.parametrize("can_fetch", [True, False])
def test_nobody_waits_for_a_holder_whose_pages_another_reader_would_have_sooner(can_fetch: bool) -> None:
    """p0 has all pages of the prompt, and a queue; p1 has neither."""
    busy, idle = view("p0", Role.PREFILL, pending_tokens=5_000), view("p1", Role.PREFILL)
    fleet = FleetView(workers=(busy, idle), page_bytes=1024, can_fetch=can_fetch)
    scene = make_scene(facts(4000, hits={busy.worker.worker: 3984}), fleet, SETTINGS)
    readings = with_lateness({worker.worker: read_on(worker, scene) for worker in (busy, idle)}, scene)
    late_s, queue_s = readings[busy.worker].terms["late"], readings[busy.worker].queue_s
    assert 0.0 < queue_s < SETTINGS.patience_s
    assert late_s == pytest.approx(queue_s if can_fetch else 0.0)
    assert readings[idle.worker].terms["late"] == 0.0


def test_a_stall_after_the_first_token_counts_three_times() -> None:
    """Six answers wait for a prompt of a hundred tokens, or it is handed over after it was read elsewhere."""
    d0 = view("d0", Role.DECODE, running=6)
    assert str(decide(facts(100), d0, P1).route) == "p1>d0"
    assert str(decide(facts(100), d0, P1, settings=replace(SETTINGS, gap_weight=6.0)).route) == "local:d0"


def test_many_short_prompts_ahead_are_not_taken_for_one_long_one() -> None:
    """Attention makes a long prompt dearer than short ones of as many tokens together."""
    pairs = replace(FITTED, extend_pair_s=1e-6)

    def queue_s(num_prompts: int) -> float:
        busy = view("p0", Role.PREFILL, cost=pairs, pending_tokens=20_000, pending_prompts=num_prompts)
        decision = decide(facts(2000), view("d0", Role.DECODE), busy, settings=PolicySettings(routes=Routes.REMOTE))
        return decision.chosen.terms["queue"]

    assert queue_s(20) < queue_s(1) / 3


def test_answers_that_will_be_over_when_a_prompt_gets_its_turn_do_not_speak_against_a_worker() -> None:
    def neighbours(**fields: int) -> float:
        busy = view("d0", Role.DECODE, running=40, **fields)  # type: ignore[arg-type]
        few = view("d1", Role.DECODE, running=2, pending_tokens=900_000, pending_prompts=100, in_flight=110)
        local = PolicySettings(routes=Routes.LOCAL)
        candidates = decide(facts(2000), busy, few, settings=local).candidates
        return next(each.terms["neighbours"] for each in candidates if each.route.decode.worker == "d0")

    assert neighbours(pending_tokens=100_000, pending_prompts=20) < neighbours() / 1.5
