"""Goal: routes that make sense and can be replayed. Method: hand-made fleets, and generated ones."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from common.core.ids import WorkerId
from common.core.worker import Role
from services.router.classify import Facts
from services.router.policy import PolicySettings, choose, choose_prefill
from services.router.view import FleetView, WorkerView
from tests.router.build import load, worker_ref, worker_view

SETTINGS = PolicySettings(local_prompt_tokens=64)


def facts(context: int = 1000, **fields: object) -> Facts:
    return Facts(context_tokens=context, num_choices=1, page_size=16, **fields)  # type: ignore[arg-type]


def fleet(*workers: WorkerView) -> FleetView:
    return FleetView(workers=workers)


P0, P1 = worker_view("p0", Role.PREFILL), worker_view("p1", Role.PREFILL)
D0, D1 = worker_view("d0", Role.DECODE), worker_view("d1", Role.DECODE)


def test_a_long_prompt_goes_to_prefill() -> None:
    decision = choose(facts(1000), fleet(D0, P0), SETTINGS)
    assert decision is not None
    assert (decision.route.prefill, decision.route.decode) == (P0.worker, D0.worker)


def test_a_short_prompt_stays_on_decode() -> None:
    decision = choose(facts(64), fleet(D0, P0), SETTINGS)
    assert decision is not None
    assert decision.route.prefill is None


def test_a_prompt_cached_on_decode_stays_there() -> None:
    decision = choose(facts(1000, hits={WorkerId("d1"): 992}), fleet(D0, D1, P0), SETTINGS)
    assert decision is not None
    assert (decision.route.prefill, decision.route.decode) == (None, D1.worker)


def test_a_prompt_cached_on_one_prefill_worker_goes_to_it() -> None:
    decision = choose(facts(1000, hits={WorkerId("p1"): 900}), fleet(D0, P0, P1), SETTINGS)
    assert decision is not None
    assert decision.route.prefill == P1.worker


def test_without_prefill_workers_decode_reads_the_prompt() -> None:
    decision = choose(facts(1000), fleet(D0), SETTINGS)
    assert decision is not None
    assert decision.route.prefill is None


def test_a_long_prompt_waits_while_prefill_is_full() -> None:
    assert choose(facts(1000), fleet(D0, replace(P0, has_room=False)), SETTINGS) is None


def test_a_decode_worker_without_enough_pages_is_passed_over() -> None:
    crowded = replace(D0, load=load(free=10))
    decision = choose(facts(1000), fleet(crowded, D1, P0), SETTINGS)
    assert decision is not None
    assert decision.route.decode == D1.worker
    assert choose(facts(1000), fleet(crowded, P0), SETTINGS) is None


def test_work_sent_since_the_report_counts() -> None:
    """A stale report must not send everybody to the same worker."""
    busy = replace(P0, sent_tokens=4000)
    decision = choose(facts(1000), fleet(D0, busy, P1), SETTINGS)
    assert decision is not None
    assert decision.route.prefill == P1.worker


def test_a_worker_that_failed_the_request_is_the_last_resort() -> None:
    decision = choose(facts(1000, avoid=frozenset({P0.worker})), fleet(D0, P0, P1), SETTINGS)
    assert decision is not None
    assert decision.route.prefill == P1.worker
    decision = choose(facts(1000, avoid=frozenset({P0.worker})), fleet(D0, P0), SETTINGS)
    assert decision is not None
    assert decision.route.prefill is None, "reading it on decode comes before a worker that failed"
    decision = choose(facts(1000, avoid=frozenset({D0.worker})), fleet(D0, P0), SETTINGS)
    assert decision is not None, "a worker that failed comes before nobody"


def test_a_newcomer_is_ramped_up() -> None:
    newcomer, loaded = replace(D0, age_s=0.5), replace(D1, in_flight=5)
    decision = choose(facts(32), fleet(newcomer, loaded), SETTINGS)
    assert decision is not None
    assert decision.route.decode == D1.worker
    decision = choose(facts(32), fleet(replace(D0, age_s=20.0), loaded), SETTINGS)
    assert decision is not None
    assert decision.route.decode == D0.worker


def test_who_came_a_moment_after_the_others_is_no_newcomer() -> None:
    first, behind = replace(D0, age_s=5.0, in_flight=5), replace(D1, age_s=4.9)
    decision = choose(facts(32), fleet(first, behind), SETTINGS)
    assert decision is not None
    assert decision.route.decode == D1.worker
    assert all(each.terms["young"] == 0 for each in decision.candidates)


def test_another_prefill_is_never_one_that_failed() -> None:
    assert choose_prefill(facts(avoid=frozenset({P0.worker})), fleet(D0, P0, P1), SETTINGS) == P1.worker
    assert choose_prefill(facts(avoid=frozenset({P0.worker, P1.worker})), fleet(D0, P0, P1), SETTINGS) is None


@st.composite
def views(draw: st.DrawFn) -> WorkerView:
    total = draw(st.integers(1, 200))
    return WorkerView(
        worker=worker_ref(f"w{draw(st.integers(0, 99))}", draw(st.integers(1, 2**63))),
        role=draw(st.sampled_from(Role)),
        is_eligible=draw(st.booleans()),
        has_room=draw(st.booleans()),
        load=load(draw(st.integers(0, total)), total, waiting_tokens=draw(st.integers(0, 10_000))),
        age_s=draw(st.floats(0, 100)),
        in_flight=draw(st.integers(0, 50)),
        sent_tokens=draw(st.integers(0, 10_000)),
        sent_pages=draw(st.integers(0, 300)),
        pending_tokens=draw(st.integers(0, 10_000)),
    )


@st.composite
def questions(draw: st.DrawFn) -> tuple[Facts, FleetView]:
    workers = draw(st.lists(views(), max_size=8, unique_by=lambda view: view.worker.worker))
    names = [view.worker.worker for view in workers]
    hits = draw(st.dictionaries(st.sampled_from(names), st.integers(0, 4000))) if names else {}
    avoid = draw(st.sets(st.sampled_from([view.worker for view in workers]))) if workers else set()
    wanted = Facts(
        context_tokens=draw(st.integers(1, 3000)),
        num_choices=draw(st.integers(1, 4)),
        page_size=16,
        hits=hits,
        avoid=frozenset(avoid),
    )
    return wanted, FleetView(workers=tuple(workers))


@given(questions(), st.randoms(use_true_random=False))
@settings(max_examples=400, deadline=None)
def test_a_decision_is_eligible_fits_and_does_not_depend_on_the_order_of_workers(question, random) -> None:
    wanted, view = question
    decision = choose(wanted, view, SETTINGS)
    shuffled = list(view.workers)
    random.shuffle(shuffled)
    again = choose(wanted, FleetView(workers=tuple(shuffled)), SETTINGS)
    assert (decision and decision.route) == (again and again.route)
    if decision is None:
        return
    decode = view.find(decision.route.decode)
    assert decode is not None
    assert decode.role is Role.DECODE
    assert decode.is_eligible
    assert decode.has_room
    assert decode.available_pages >= wanted.num_pages
    if decision.route.prefill is not None:
        prefill = view.find(decision.route.prefill)
        assert prefill is not None
        assert prefill.role is Role.PREFILL
        assert prefill.is_eligible
        assert prefill.has_room
    assert decision.route in [candidate.route for candidate in decision.candidates]
