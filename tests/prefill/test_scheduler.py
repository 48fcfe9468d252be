"""Prefill scheduling is pure: the budget is filled in order of urgency."""

from hypothesis import given
from hypothesis import strategies as st

from common.core.ids import RequestId, SequenceId, TenantId
from common.core.request import Priority
from common.engine.plan import Extend, SequenceView, seniority
from services.prefill.scheduler import PrefillLimits, plan_admission, plan_step

LIMITS = PrefillLimits(page_size=4, step_tokens=16, chunk_tokens=12, max_prompts=4)


def prompt(
    number: int, pending: int, *, priority: Priority = Priority.STANDARD, computed: int = 0, tenant: str = ""
) -> SequenceView:
    return SequenceView(
        id=SequenceId(RequestId(f"r{number}")),
        priority=priority,
        arrived=float(number),
        deadline=100.0,
        num_tokens=computed + pending,
        num_pending=pending,
        pages_held=-(-computed // 4),
        private_pages=-(-computed // 4),
        needs_copy=False,
        is_decoding=False,
        tenant=TenantId(tenant),
    )


def test_several_prompts_share_one_step_and_the_last_is_cut_into_a_chunk() -> None:
    plan = plan_step((prompt(1, 6), prompt(2, 6), prompt(3, 6)), limits=LIMITS)
    assert [extend.num_tokens for extend in plan.extend] == [6, 6, 4]


def test_an_interactive_prompt_goes_before_older_batch_work_in_a_step_no_longer_than_a_chunk() -> None:
    batch, urgent = prompt(1, 40, priority=Priority.BATCH), prompt(2, 5, priority=Priority.INTERACTIVE)
    plan = plan_step((batch, urgent), limits=LIMITS)
    assert plan.extend == (Extend(sequence=urgent.id, num_tokens=5), Extend(sequence=batch.id, num_tokens=7))


def test_a_long_prompt_leaves_room_for_the_next_one() -> None:
    plan = plan_step((prompt(1, 40), prompt(2, 40)), limits=LIMITS)
    assert [extend.num_tokens for extend in plan.extend] == [12, 4]


def test_a_prompt_begins_only_when_all_its_pages_fit() -> None:
    assert plan_admission((prompt(1, 17),), num_active=0, available_pages=4, limits=LIMITS) == ()
    assert plan_admission((prompt(1, 16),), num_active=0, available_pages=4, limits=LIMITS) == (prompt(1, 16).id,)


@given(st.lists(st.tuples(st.integers(1, 60), st.sampled_from(Priority)), max_size=8))
def test_the_budget_is_filled_and_never_exceeded(prompts: list[tuple[int, Priority]]) -> None:
    views = tuple(prompt(number, pending, priority=priority) for number, (pending, priority) in enumerate(prompts))
    plan = plan_step(views, limits=LIMITS)
    spent = sum(extend.num_tokens for extend in plan.extend)
    first = min((seniority(view)[0] for view in views), default=0)
    urgent = sum(min(view.num_pending, LIMITS.chunk_tokens) for view in views if seniority(view)[0] == first)
    wanted = sum(min(view.num_pending, LIMITS.chunk_tokens) for view in views)
    most = LIMITS.step_tokens if wanted == urgent else max(LIMITS.chunk_tokens, min(urgent, LIMITS.step_tokens))
    assert spent == min(wanted, most)
    by_id = {view.id: view for view in views}
    served = [seniority(by_id[extend.sequence]) for extend in plan.extend]
    assert served == sorted(served)


def test_the_one_prompt_of_a_tenant_is_read_beside_the_first_of_another() -> None:
    flood = tuple(prompt(number, 40, tenant="flood") for number in range(3))
    quiet = prompt(9, 4, tenant="quiet")
    plan = plan_step((*flood, quiet), limits=LIMITS)
    assert [extend.sequence for extend in plan.extend] == [flood[0].id, quiet.id]
    waiting = plan_admission((*flood, quiet), num_active=0, available_pages=100, limits=LIMITS)
    assert waiting.index(quiet.id) == 1


def test_a_tenant_that_was_given_less_reads_before_prompts_that_came_first_and_go_on_for_long() -> None:
    long = (prompt(1, 400, tenant="one"), prompt(2, 400, tenant="two"))
    quiet = prompt(9, 30, tenant="quiet")
    given = {long[0].tenant: 30, long[1].tenant: 30}
    plan = plan_step((*long, quiet), limits=LIMITS, given=given)
    assert plan.extend == (Extend(sequence=quiet.id, num_tokens=12),), "and its step is no longer than its chunk"
    assert plan_admission((*long, quiet), num_active=0, available_pages=200, limits=LIMITS, given=given) == (
        quiet.id,
        long[0].id,
    )


def test_what_an_owed_prompt_leaves_of_a_chunk_is_read_of_the_others() -> None:
    flood, quiet = prompt(1, 400, tenant="flood"), prompt(9, 5, tenant="quiet")
    plan = plan_step((flood, quiet), limits=LIMITS, given={flood.tenant: 40})
    assert plan.extend == (Extend(sequence=quiet.id, num_tokens=5), Extend(sequence=flood.id, num_tokens=7))


def test_tenants_that_were_given_about_as_much_fill_a_step_together() -> None:
    one, two = prompt(1, 400, tenant="one"), prompt(2, 400, tenant="two")
    plan = plan_step((one, two), limits=LIMITS, given={one.tenant: 40, two.tenant: 30})
    assert plan.extend == (Extend(sequence=two.id, num_tokens=12), Extend(sequence=one.id, num_tokens=4))


def test_batch_work_leaves_a_place_and_some_pages_to_what_is_more_urgent() -> None:
    batch = tuple(prompt(number, 8, priority=Priority.BATCH) for number in range(9))
    urgent = prompt(10, 8, priority=Priority.INTERACTIVE)
    begun = plan_admission(batch, num_active=0, available_pages=100, limits=LIMITS)
    assert len(begun) == LIMITS.max_prompts - 1
    assert plan_admission((*batch, urgent), num_active=3, available_pages=100, limits=LIMITS) == (urgent.id,)
    assert plan_admission(batch[:1], num_active=1, available_pages=2, limits=LIMITS) == ()
    assert plan_admission(batch[:1], num_active=0, available_pages=2, limits=LIMITS) == (batch[0].id,)
