"""Goal: a worker's reading is shared by what tenants were given, however many prompts or tokens they bring. Method: the
pure order and count, and steps that fill a budget by them."""

from collections import Counter

import pytest

from common.core.ids import RequestId, SequenceId, TenantId
from common.core.request import Priority
from common.engine.plan import BatchPlan, Extend, SequenceView
from common.engine.turns import Shares, in_turns, is_owed

STEP, WINDOW = 8, 256


def prompt(name: str, pending: int, *, at: float = 0.0, priority: Priority = Priority.STANDARD) -> SequenceView:
    """`name`: the tenant's, and a number."""
    return SequenceView(
        id=SequenceId(RequestId(name)),
        priority=priority,
        arrived=at,
        deadline=100.0,
        num_tokens=pending,
        num_pending=pending,
        pages_held=0,
        private_pages=0,
        needs_copy=False,
        is_decoding=False,
        tenant=TenantId(name.partition("-")[0]),
    )


def read(shares: Shares, *views: SequenceView, num_steps: int) -> Counter[str]:
    """Tokens by tenant over so many steps of endless prompts."""
    read_by: Counter[str] = Counter()
    for _ in range(num_steps):
        first, *_ = in_turns(views, shares.given, most=STEP)
        shares.note(views, BatchPlan(extend=(Extend(sequence=first.id, num_tokens=STEP),)))
        read_by[first.tenant] += STEP
    return read_by


def test_one_tenants_prompts_are_read_in_the_order_in_which_they_came() -> None:
    prompts = [prompt("a-1", 40, at=2.0), prompt("a-2", 4, at=1.0), prompt("a-3", 4, at=3.0)]
    assert [view.id.request for view in in_turns(prompts, {}, most=STEP)] == ["a-2", "a-1", "a-3"]


def test_what_a_prompt_gets_in_this_step_counts_for_the_next_one_in_line() -> None:
    prompts = [prompt("a-1", 40, at=1.0), prompt("a-2", 4, at=2.0), prompt("b-1", 4, at=3.0), prompt("b-2", 4, at=4.0)]
    order = in_turns(prompts, {TenantId("b"): 6}, most=STEP)
    assert [view.id.request for view in order] == ["a-1", "b-1", "a-2", "b-2"]


def test_a_higher_class_goes_first_whatever_its_tenant_was_given() -> None:
    urgent, quiet = prompt("a-1", 4, priority=Priority.INTERACTIVE), prompt("b-1", 4)
    assert in_turns([quiet, urgent], {TenantId("a"): 1000}, most=STEP) == [urgent, quiet]
    assert is_owed(urgent, quiet, {TenantId("a"): 1000}, lead=STEP)
    assert not is_owed(quiet, urgent, {TenantId("a"): 1000}, lead=STEP)


@pytest.mark.parametrize("num_tenants", [2, 3, 5])
def test_floods_share_alike_however_many_prompts_each_has(num_tenants: int) -> None:
    """But for the step that a window may hold of one more than of another."""
    shares = Shares(WINDOW)
    views = [prompt(f"{tenant}-{n}", 10_000) for tenant in range(num_tenants) for n in range(tenant + 1)]
    read_by = read(shares, *views, num_steps=60 * num_tenants)
    assert max(read_by.values()) <= (1 + 1.5 * num_tenants * STEP / WINDOW) * min(read_by.values())


def test_whoever_was_quiet_is_read_first_and_takes_turns_before_the_others_starve() -> None:
    """Goal: neither waits for ever. Half of the window is what a newcomer may have before."""
    shares, flood, newcomer = Shares(WINDOW), prompt("flood-1", 10_000), prompt("new-1", 10_000, at=1.0)
    read(shares, flood, num_steps=1000)
    first = read(shares, flood, newcomer, num_steps=WINDOW // STEP // 2 - 1)
    assert first == {"new": WINDOW // 2 - STEP}
    later = read(shares, flood, newcomer, num_steps=100)
    assert later["flood"] == pytest.approx(later["new"], abs=2 * STEP)


def test_only_the_window_is_remembered() -> None:
    shares, names = Shares(WINDOW), [prompt(f"{number}-1", 10) for number in range(1000)]
    for view in names:
        shares.note((view,), BatchPlan(extend=(Extend(sequence=view.id, num_tokens=STEP),)))
    assert sum(shares.given.values()) == WINDOW
    assert len(shares.given) == WINDOW // STEP
