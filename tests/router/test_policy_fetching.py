"""Goal: a prompt that is cached elsewhere is read where that costs least, its pages fetched or not. Method: as in
test_policy_costs, small fleets whose timings are known."""

from dataclasses import replace

from common.core.ids import WorkerId
from common.core.worker import Role
from services.router.policy import Decision, PolicySettings, Route
from services.router.view import WorkerView
from tests.router.test_policy_costs import FITTED, decide, facts, view

FAR = replace(FITTED, transfer_byte_s=1e-5)
"""A page takes 40 ms, reading it 3."""
HELD = {WorkerId("d0"): 1600}


def two(**holder: object) -> tuple[WorkerView, WorkerView]:
    return view("d0", Role.DECODE, **holder), view("d1", Role.DECODE)  # type: ignore[arg-type]  # tests name fields


def route(*workers: WorkerView, can_fetch: bool = True) -> Decision:
    return decide(facts(2000, hits=HELD), *workers, can_fetch=can_fetch, page_bytes=4096)


def test_a_holder_with_time_reads_itself() -> None:
    assert str(route(*two()).route) == "local:d0"


def test_pages_follow_a_prompt_whose_holder_is_busy() -> None:
    decision = route(*two(pending_tokens=60_000))
    assert str(decision.route) == "local:d1<d0"
    assert decision.chosen.terms["fetch"] > 0


def test_pages_follow_a_prompt_whose_holder_drains() -> None:
    assert str(route(*two(is_eligible=False)).route) == "local:d1<d0"


def test_nothing_is_fetched_from_a_worker_that_is_not_heard() -> None:
    assert str(route(*two(is_eligible=False, is_heard=False)).route) == "local:d1"


def test_nothing_is_fetched_from_a_worker_that_has_yet_to_read_it() -> None:
    """Of a burst of one new prompt the second is drawn to where the first was sent, and fetches nothing."""
    held = facts(2000, hits=HELD, awaited=frozenset(HELD))
    decision = decide(held, *two(pending_tokens=2000), can_fetch=True, page_bytes=4096)
    assert str(decision.route) == "local:d0"


def test_nothing_is_fetched_from_a_worker_that_failed_the_request() -> None:
    holder, idle = two(pending_tokens=60_000)
    held = facts(2000, hits=HELD, avoid=frozenset({holder.worker}))
    assert str(decide(held, holder, idle, can_fetch=True, page_bytes=4096).route) == "local:d1"


def test_nothing_is_fetched_that_is_read_sooner() -> None:
    busy, idle = two(pending_tokens=60_000)
    assert str(route(busy, replace(idle, load=replace(idle.load, cost=FAR))).route) == "local:d1"


def test_pages_are_fetched_where_reading_is_quicker_but_holds_up_others() -> None:
    """A fetch of 0.8 s against 0.4 s of reading, for which all who come later wait."""
    busy, idle = two(pending_tokens=60_000)
    near = replace(FITTED, transfer_byte_s=2e-6)
    decision = route(busy, replace(idle, load=replace(idle.load, cost=near)))
    assert str(decision.route) == "local:d1<d0"
    read_s = decision.chosen.terms["read"]
    assert decision.chosen.terms["fetch"] > 4 * read_s, "400 of 2000 tokens are read: all of them sooner than the fetch"


def test_a_holder_answers_between_steps_that_keep_its_answers_time_between_tokens() -> None:
    """However many prompts it reads beside them: a step that reads 2048 of their tokens would take 0.4 s."""
    workers = two(pending_tokens=60_000, running=16)
    settings = PolicySettings(extend_tokens=2048)
    decision = decide(facts(2000, hits=HELD), *workers, settings=settings, can_fetch=True, page_bytes=4096)
    assert str(decision.route) == "local:d1<d0"
    assert decision.chosen.terms["fetch"] < 2 * settings.extend_itl_s + 0.01


def test_nothing_is_fetched_where_workers_do_not() -> None:
    assert str(route(*two(pending_tokens=60_000), can_fetch=False).route) == "local:d1"


def test_what_a_fetch_pushes_out_counts() -> None:
    """A reader whose cache is full loses something by it."""
    busy, idle = two(pending_tokens=60_000)
    pages = idle.load.pages
    full = replace(idle, load=replace(idle.load, pages=replace(pages, free=0, cached=pages.free + pages.cached)))
    assert route(busy, full).chosen.terms["copied"] > route(busy, idle).chosen.terms["copied"] == 0.0


def test_a_prefill_worker_fetches_from_decode_what_it_lacks() -> None:
    busy = view("d0", Role.DECODE, pending_tokens=60_000, running=8)
    decision = route(busy, view("p0", Role.PREFILL))
    assert str(decision.route) == "p0>d0<d0"


def test_what_is_fetched_is_not_left_to_read() -> None:
    """Else its reader would look busy for as long as reading everything takes, and the next prompts went elsewhere."""
    held = facts(2000, hits=HELD)
    reader, holder = view("d1", Role.DECODE).worker, view("d0", Role.DECODE).worker
    assert Route(decode=reader).unread_tokens(held) == 2000
    assert Route(decode=reader, source=holder).unread_tokens(held) == 400
    assert Route(decode=reader, prefill=holder).unread_tokens(held) == 400
