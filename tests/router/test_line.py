"""Goal: who is refused, for what reason, and who goes first. Method: the pure line, with numbers for a fleet."""

from dataclasses import dataclass

import pytest

from common.config.loader import load
from common.core.errors import Reason, Refused
from common.core.ids import RequestId, RouterId, TenantId
from common.core.queue import Cause
from common.core.request import Priority
from services.router.admission.limits import AdmissionLimits, ClassLimits, TenantLimits
from services.router.admission.line import QUEUE_SHARE, Line
from services.router.admission.shedding import shed_share
from services.router.admission.tenants import STRANGERS
from services.router.admission.ticket import Ticket, Usage


@dataclass(slots=True)
class Room:
    """A fleet that says no with a reason, or yes."""

    cause: Cause | None = None
    num_places: int | None = None

    def obstacle(self, num_pages: int, num_tokens: int) -> Cause | None:
        return self.cause

    def places_for(self, priority: Priority) -> int | None:
        return self.num_places


def ticket(name: str, tenant: str = "t", priority: Priority = Priority.STANDARD, **fields: object) -> Ticket:
    defaults: dict[str, object] = {"arrived": 0.0, "deadline": 1e6, "num_pages": 1, "num_tokens": 10}
    values = {**defaults, "uncached_tokens": 10, "max_new_tokens": 10, **fields}
    return Ticket(request=RequestId(name), tenant=TenantId(tenant), priority=priority, **values)  # type: ignore[arg-type]


def line(*settings: str) -> Line:
    return Line(AdmissionLimits.of(load(settings=settings)))


def refusal(waiting: Line, wanted: Ticket, now: float = 0.0, chance: float = 0.5) -> Refused:
    with pytest.raises(Refused) as caught:
        waiting.offer(wanted, now, chance=chance)
    assert (caught.value.retry_after_s or 0) > 0
    return caught.value


def move(held: Line, room: Room, *, count: int, every_s: float, start: float) -> float:
    """A line that is held up and moves at an even pace; returns when."""
    now = start
    for number in range(count):
        held.offer(ticket(f"moved-{start}-{number}"), now, chance=0.99)
        room.cause = Cause.DECODE_FULL
        assert held.take(now, room) is None
        now += every_s
        room.cause = None
        taken = held.take(now, room)
        assert taken is not None
        held.land(taken.request, now)
        held.leave(taken.request, Usage(generated_tokens=1), now)
    return now


def test_the_queue_is_bounded_in_tokens_too() -> None:
    full, room = line("admission.max_queued_tokens_standard=100"), Room(Cause.DECODE_FULL)
    full.offer(ticket("long", num_tokens=90), 0.0, chance=0.5)
    assert full.take(0.0, room) is None
    refused = refusal(full, ticket("next", num_tokens=20))
    assert (refused.reason, refused.quota_subject) == (Reason.QUEUE_FULL, "queue_tokens:standard")
    full.offer(ticket("short"), 0.0, chance=0.5)


def test_one_tenant_cannot_fill_the_queue_of_its_class() -> None:
    full = line("router.max_queue_standard=100")
    for number in range(80):
        full.offer(ticket(str(number), "flood"), 0.0, chance=0.5)
    assert refusal(full, ticket("more", "flood")).quota_subject == "queue:standard:tenant"
    full.offer(ticket("mine", "quiet"), 0.0, chance=0.5)
    assert len(full.queue(Priority.STANDARD)) == 81
    assert QUEUE_SHARE * 20 == 80


def test_rate_limits_are_shared_by_the_routers_and_refill_with_time() -> None:
    limited = line("admission.tenants=small: requests_per_s=4")
    limited.tenants.roster.see({RouterId("router-1"): None}, 0.0)
    for number in range(4):  # two seconds of half of four a second
        limited.offer(ticket(str(number), "small"), 0.0, chance=0.0)
    refused = refusal(limited, ticket("fifth", "small"), chance=0.0)
    assert (refused.reason, refused.quota_subject) == (Reason.RATE_LIMITED, "tenant:requests")
    assert refused.retry_after_s == pytest.approx(0.5, abs=0.01)
    limited.offer(ticket("later", "small"), 0.51, chance=0.0)
    limited.offer(ticket("other", "big"), 0.51, chance=0.0)


def test_tokens_are_reserved_and_what_was_not_used_is_given_back() -> None:
    limited, room = line("admission.tenants=small: tokens_per_s=100"), Room()
    limited.offer(ticket("a", "small", num_tokens=20, max_new_tokens=150), 0.0, chance=0.0)
    assert refusal(limited, ticket("b", "small", num_tokens=20, max_new_tokens=150)).quota_subject == "tenant:tokens"
    assert limited.take(0.0, room) is not None
    limited.land(RequestId("a"), 0.0)
    limited.leave(RequestId("a"), Usage(generated_tokens=5), 0.0)
    limited.offer(ticket("b", "small", num_tokens=20, max_new_tokens=150), 0.0, chance=0.0)


def test_concurrent_streams_are_limited() -> None:
    limited, room = line("admission.tenant_streams=2"), Room()
    for name in "ab":
        limited.offer(ticket(name), 0.0, chance=0.0)
    assert refusal(limited, ticket("c")).quota_subject == "tenant:streams"
    assert limited.take(0.0, room) is not None
    limited.leave(RequestId("a"), Usage(), 1.0)
    limited.offer(ticket("c"), 1.0, chance=0.0)


def test_a_deadline_that_the_queue_cannot_keep_is_refused_at_once() -> None:
    """B33: more than twice the time that is left."""
    slow, room = line("admission.ttft_standard_s=1000"), Room()
    now = move(slow, room, count=20, every_s=1.0, start=0.0)
    room.cause = Cause.DECODE_FULL
    for number in range(10):
        slow.offer(ticket(str(number)), now, chance=0.99)
        slow.take(now, room)
    assert slow.wait_s(ticket("x"), now) == pytest.approx(10, rel=0.2)
    hopeless = ticket("hopeless", deadline=now + 2.0)
    refused = refusal(slow, hopeless, now)
    assert refused.reason is Reason.DEADLINE_UNREACHABLE
    slow.offer(ticket("perhaps", deadline=now + 8.0), now, chance=0.99)
    assert refusal(slow, ticket("long", deadline=now + 60, reading_s=200.0), now).reason is Reason.DEADLINE_UNREACHABLE


@pytest.mark.parametrize(
    ("cause", "reason"), [(Cause.DECODE_FULL, Reason.MEMORY_PRESSURE), (Cause.PREFILL_BUSY, Reason.LOAD_SHED)]
)
def test_shedding_grows_with_the_wait_and_names_what_is_short(cause: Cause, reason: Reason) -> None:
    slow, room = line("admission.ttft_standard_s=20"), Room()
    now = move(slow, room, count=20, every_s=1.0, start=0.0)
    room.cause = cause
    for number in range(12):
        slow.offer(ticket(str(number), has_run=True), now, chance=0.99)
        slow.take(now, room)
    share = shed_share(slow.wait_s(ticket("x"), now), 20.0)
    assert 0.1 < share < 0.9
    assert refusal(slow, ticket("unlucky"), now, chance=share - 0.05).reason is reason
    slow.offer(ticket("lucky"), now, chance=share + 0.05)


def test_nobody_is_shed_while_no_worker_is_there_or_nothing_is_known() -> None:
    assert shed_share(None, 1.0) == 0.0
    slow, room = line("admission.ttft_standard_s=0.1"), Room()
    now = move(slow, room, count=20, every_s=1.0, start=0.0)
    room.cause = Cause.NO_WORKERS
    for number in range(10):
        slow.offer(ticket(str(number)), now, chance=0.0)
        assert slow.take(now, room) is None


def test_an_absence_is_no_slowness() -> None:
    """Begun answers wait in line for the workers' return. Whoever comes then has not to wait for the rest of the day,
    and after the return as long as before."""
    slow, room = line("admission.ttft_standard_s=1000"), Room()
    now = move(slow, room, count=20, every_s=0.5, start=0.0)
    room.cause = Cause.NO_WORKERS
    for number in range(10):
        slow.offer(ticket(f"begun-{number}", has_run=True), now, chance=0.0)
    for _ in range(60):
        assert slow.take(now, room) is None
        now += 1.0
    slow.offer(ticket("new", deadline=now + 8.0), now, chance=0.0)
    room.cause = Cause.DECODE_FULL
    assert slow.take(now, room) is None
    assert slow.wait_s(ticket("newer"), now) == pytest.approx(5.5, rel=0.2)


def test_expired_work_never_reaches_a_worker() -> None:
    late, room = line(), Room(Cause.DECODE_FULL)
    late.offer(ticket("late", deadline=1.0), 0.0, chance=0.5)
    late.offer(ticket("in time", deadline=9.0), 0.0, chance=0.5)
    assert late.take(0.0, room) is None
    room.cause = None
    taken = late.take(2.0, room)
    assert taken is not None
    assert taken.request == "in time"
    late.offer(ticket("too late", deadline=3.0), 2.0, chance=0.5)
    assert [each.request for each in late.expire(3.0)] == ["too late"]


def test_invented_tenants_share_one_state() -> None:
    limits = AdmissionLimits(
        classes=dict.fromkeys(Priority, ClassLimits(max_queue=10_000)),
        max_active=10,
        tenants=TenantLimits(max_tenants=50),
    )
    crowded, room = Line(limits), Room(Cause.DECODE_FULL)
    for number in range(1000):
        crowded.offer(ticket(str(number), f"invented-{number}"), 0.0, chance=0.5)
        crowded.take(0.0, room)
    assert len(crowded.tenants) == 51
    assert crowded.tenants.find(TenantId("invented-999"), 0.0).id == STRANGERS
    for number in range(1000):
        crowded.withdraw(RequestId(str(number)), 1.0)
    assert crowded.tenants.find(TenantId("honest"), 1.0).id == "honest", "who owes nothing is forgotten"
    assert len(crowded.tenants) <= 51


def test_a_tenant_that_was_placed_is_charged_for_what_it_used_and_not_for_what_it_might_have() -> None:
    fair, room = line(), Room()
    for name, tenant, generated in (("a", "brief", 1), ("b", "wordy", 64)):
        fair.offer(ticket(name, tenant, max_new_tokens=1000), 0.0, chance=0.5)
        assert fair.take(0.0, room) is not None
        fair.land(RequestId(name), 0.0)
        fair.leave(RequestId(name), Usage(generated_tokens=generated), 0.0)
    brief, wordy = (fair.tenants.find(TenantId(name), 0.0).counter for name in ("brief", "wordy"))
    assert wordy - brief == pytest.approx(5.0 * 63)


def test_answers_of_late_say_how_long_the_next_one_becomes() -> None:
    """Sixty of 300 tokens; those that ended without a token say nothing."""
    lately, room = line(), Room()
    first = lately.answer_tokens
    for number in range(120):
        name = str(number)
        lately.offer(ticket(name), 0.0, chance=0.5)
        assert lately.take(0.0, room) is not None
        lately.land(RequestId(name), 0.0)
        lately.leave(RequestId(name), Usage(generated_tokens=300 * (number % 2)), 0.0)
    assert first < 100
    assert 280 < lately.answer_tokens <= 300


def test_the_queue_says_how_long_it_takes_to_drain_only_when_it_knows() -> None:
    moving, room = line(), Room()
    assert moving.drain_s(Priority.STANDARD, 0.0) == 0.0, "nobody waits"
    room.cause = Cause.DECODE_FULL
    moving.offer(ticket("first"), 0.0, chance=0.5)
    assert moving.take(0.0, room) is None
    assert moving.drain_s(Priority.STANDARD, 0.0) is None, "somebody waits, and nobody knows for how long"
    assert moving.landing_s(0.0) is None
    room.cause = None
    assert moving.take(3.0, room) is not None
    moving.land(RequestId("first"), 3.0)
    assert moving.landing_s(3.0) == 3.0


def test_tenants_that_have_their_shares_but_for_a_part_of_a_place_leave_the_last_one() -> None:
    """Five places for four tenants: none has a right to a second one before it is clear that nobody else comes."""
    fair, room = line(), Room(num_places=5)
    fair.offer(ticket("early", "quiet"), 0.0, chance=0.5)
    assert fair.take(0.0, room) is not None
    fair.leave(RequestId("early"), Usage(), 0.0)
    for number in range(12):
        fair.offer(ticket(str(number), f"flood-{number % 3}"), 1.0, chance=0.5)
    taken = [fair.take(1.0, room) for _ in range(12)]
    assert sum(each is not None for each in taken) == 4
    fair.offer(ticket("late", "quiet"), 2.0, chance=0.5)
    next_in = fair.take(2.0, room)
    assert next_in is not None
    assert next_in.request == "late"


def test_places_that_workers_told_of_are_kept_for_a_quiet_tenant_before_anybody_was_refused() -> None:
    """A flood that fills every place before the first refusal would make the quiet one wait until somebody leaves."""
    fair, room = line(), Room(num_places=7)
    fair.offer(ticket("early", "quiet"), 0.0, chance=0.5)
    assert fair.take(0.0, room) is not None
    fair.land(RequestId("early"), 0.0)
    fair.leave(RequestId("early"), Usage(generated_tokens=1), 0.5)
    for number in range(10):
        fair.offer(ticket(f"flood-{number}", "flood"), 1.0, chance=0.5)
    let_in = 0
    while (taken := fair.take(1.0, room)) is not None:
        fair.land(taken.request, 1.0)
        let_in += 1
    assert let_in == 6
    fair.offer(ticket("late", "quiet"), 1.0, chance=0.5)
    assert fair.take(1.0, room) is not None
