"""Decode scheduling is pure: any views in, a plan that keeps the invariants out."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from common.core.ids import RequestId, SequenceId, TenantId
from common.core.request import Priority
from common.engine.plan import BatchPlan, SequenceView, seniority
from services.decode.scheduler import DecodeLimits, plan_admission, plan_step

LIMITS = DecodeLimits(page_size=4, max_sequences=8, extend_tokens=6, idle_extend_tokens=16, watermark_pages=2)


def view(number: int, *, tokens: int = 9, pending: int = 1, held: int = 2, **changes: object) -> SequenceView:
    base = SequenceView(
        id=SequenceId(RequestId(f"r{number}")),
        priority=Priority.STANDARD,
        arrived=float(number),
        deadline=100.0,
        num_tokens=tokens,
        num_pending=pending,
        pages_held=held,
        private_pages=held,
        needs_copy=False,
        is_decoding=pending == 1,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@st.composite
def views(draw: st.DrawFn) -> tuple[SequenceView, ...]:
    made = []
    for number in range(draw(st.integers(0, 6))):
        tokens = draw(st.integers(1, 40))
        is_decoding = draw(st.booleans())
        pending = 1 if is_decoding else draw(st.integers(1, tokens))
        held = -(-(tokens - pending) // 4)
        made.append(
            view(
                number,
                tokens=tokens,
                pending=pending,
                held=held,
                priority=draw(st.sampled_from(Priority)),
                private_pages=draw(st.integers(0, held)),
                is_decoding=is_decoding,
                needs_copy=is_decoding and draw(st.booleans()),
            )
        )
    return tuple(made)


def pages_used(plan: BatchPlan, given_views: tuple[SequenceView, ...]) -> int:
    by_id = {each.id: each for each in given_views}
    used = sum(by_id[extend.sequence].pages_to_grow(extend.num_tokens, 4) for extend in plan.extend)
    return used + sum(by_id[each].pages_to_grow(1, 4) for each in plan.decode)


@given(views(), st.integers(0, 20))
def test_a_plan_never_spends_pages_that_are_not_there(given_views: tuple[SequenceView, ...], room: int) -> None:
    plan = plan_step(given_views, available_pages=room, limits=LIMITS)
    by_id = {each.id: each for each in given_views}
    freed = sum(by_id[victim].private_pages for victim in plan.preempt)
    assert pages_used(plan, given_views) <= room + freed


@given(views(), st.integers(0, 20))
def test_the_oldest_sequence_is_never_preempted(given_views: tuple[SequenceView, ...], room: int) -> None:
    plan = plan_step(given_views, available_pages=room, limits=LIMITS)
    if given_views:
        assert min(given_views, key=seniority).id not in plan.preempt


@given(views(), st.integers(0, 20))
def test_nobody_is_both_preempted_and_stepped_and_nobody_steps_twice(
    given_views: tuple[SequenceView, ...], room: int
) -> None:
    plan = plan_step(given_views, available_pages=room, limits=LIMITS)
    stepped = [extend.sequence for extend in plan.extend] + list(plan.decode)
    assert len(stepped) == len(set(stepped))
    assert not set(stepped) & set(plan.preempt)


@given(views())
def test_with_room_every_decoding_sequence_gets_its_token(given_views: tuple[SequenceView, ...]) -> None:
    plan = plan_step(given_views, available_pages=1000, limits=LIMITS)
    assert set(plan.decode) == {each.id for each in given_views if each.is_decoding}
    assert not plan.preempt


@given(views())
def test_local_prompts_stay_within_the_budget(given_views: tuple[SequenceView, ...]) -> None:
    plan = plan_step(given_views, available_pages=1000, limits=LIMITS)
    budget = LIMITS.extend_tokens if plan.decode else LIMITS.idle_extend_tokens
    assert sum(extend.num_tokens for extend in plan.extend) <= budget


def test_the_youngest_makes_room_for_the_oldest() -> None:
    old, young = view(1, tokens=9, held=2), view(2, tokens=9, held=2)
    plan = plan_step((young, old), available_pages=0, limits=LIMITS)
    assert plan.preempt == (young.id,)
    assert plan.decode == (old.id,)


def test_admission_keeps_the_watermark_free_while_others_run() -> None:
    waiting = (view(1, tokens=7, pending=7, held=0, is_decoding=False),)
    assert plan_admission(waiting, num_active=1, available_pages=3, limits=LIMITS) == ()
    assert plan_admission(waiting, num_active=1, available_pages=4, limits=LIMITS) == (waiting[0].id,)
    assert plan_admission(waiting, num_active=0, available_pages=2, limits=LIMITS) == (waiting[0].id,)


def test_a_small_late_prompt_does_not_overtake_a_large_early_one_for_ever() -> None:
    large = view(1, tokens=79, pending=79, held=0, is_decoding=False)
    small = view(2, tokens=3, pending=3, held=0, is_decoding=False)
    assert plan_admission((small, large), num_active=0, available_pages=10, limits=LIMITS) == ()


def test_tenants_take_turns_in_the_budget_for_local_prompts() -> None:
    flood = tuple(view(number, tokens=20, pending=20, held=0, tenant=TenantId("flood")) for number in range(3))
    quiet = view(9, tokens=3, pending=3, held=0, tenant=TenantId("quiet"))
    short = replace(flood[0], num_pending=3, num_tokens=3)
    plan = plan_step((short, *flood[1:], quiet, view(10)), available_pages=100, limits=LIMITS)
    assert [extend.sequence for extend in plan.extend] == [short.id, quiet.id]


def test_a_local_prompt_that_came_first_and_goes_on_for_long_does_not_hold_up_another_tenants() -> None:
    long = view(1, tokens=400, pending=400, held=0, tenant=TenantId("flood"))
    quiet = view(9, tokens=3, pending=3, held=0, tenant=TenantId("quiet"))
    plan = plan_step((long, quiet, view(10)), available_pages=200, limits=LIMITS, given={long.tenant: 1})
    assert {extend.sequence: extend.num_tokens for extend in plan.extend} == {quiet.id: 3, long.id: 3}
    waiting = (long, quiet)
    assert plan_admission(waiting, num_active=0, available_pages=200, limits=LIMITS, given={long.tenant: 1}) == (
        quiet.id,
        long.id,
    )
