"""Goal: one planner sets scales, only with the Lease; the emptiest pod goes first. Method: an API kept in memory."""

import asyncio
from dataclasses import dataclass, field, replace

from common.core.clock import ManualClock
from common.core.errors import Unavailable
from common.core.ids import Epoch, WorkerId, WorkerRef
from common.core.worker import LoadReport, Member, PageCounts, Role, WorkerState
from common.observe import catalogue
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from services.planner.actuate import MAX_COSTS, REFUSED_S, Actuator, Wish, deletion_costs
from services.planner.decide import Recommendation, State, Verdict, Why
from services.planner.lease import DURATION_S, LeaseView, Step, Watched, next_step

PAGES = PageCounts(total=1, free=1, promised=0, referenced=0, cached=0)


@dataclass
class Api:
    """One cluster for several planners."""

    lease_now: LeaseView | None = None
    scales: dict[Role, int] = field(default_factory=lambda: {Role.PREFILL: 1, Role.DECODE: 1})
    costs: dict[str, int] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    written: list[str] = field(default_factory=list)
    """Pods and roles, in the order in which they were."""

    def lease(self) -> LeaseView | None:
        return self.lease_now

    def hold(self, step: Step, *, me: str, version: str) -> bool:
        now = self.lease_now
        if (now is None) != (step is Step.CREATE) or (now is not None and now.version != version):
            return False
        self.lease_now = LeaseView(holder=me, version=str(int(version or 0) + 1))
        return True

    def let_go(self, *, version: str) -> bool:
        return self.hold(Step.RENEW, me="", version=version)

    def replicas(self, role: Role) -> int:
        return self.scales[role]

    def scale(self, role: Role, replicas: int) -> None:
        self.scales[role] = replicas
        self.written.append(role)

    def set_deletion_cost(self, pod: str, cost: int) -> None:
        if pod in self.missing:
            raise Unavailable(message="404")
        self.costs[pod] = cost
        self.written.append(pod)


def recommendation(prefill: int, decode: int) -> Recommendation:
    verdicts = [
        Verdict(role=role, desired=desired, before=1, why=Why.NEEDED)
        for role, desired in ((Role.PREFILL, prefill), (Role.DECODE, decode))
    ]
    return Recommendation(at=0.0, prefill=verdicts[0], decode=verdicts[1], state=State())


def member(name: str, sequences: int, state: WorkerState = WorkerState.READY) -> Member:
    return Member(
        worker=WorkerRef(worker=WorkerId(name), epoch=Epoch(1), address="127.0.0.1:1"),
        role=Role.DECODE,
        state=state,
        load=LoadReport(pages=PAGES, running_sequences=sequences),
        layout_fingerprint=b"",
    )


def actuator(
    api: Api, clock: ManualClock, me: str, wish: Wish, *, sets_scales: bool = True, marks_pods: bool = True
) -> Actuator:
    return Actuator(
        api,
        me=me,
        read=lambda: wish,
        sets_scales=sets_scales,
        marks_pods=marks_pods,
        metrics=Metrics(ProcessRole.PLANNER),
        clock=clock,
    )


def test_the_leader_sets_scales_and_the_other_waits_until_it_is_silent() -> None:
    api, clock = Api(), ManualClock(100.0)
    one = actuator(api, clock, "planner-0", Wish(recommendation=recommendation(3, 2), members=()))
    two = actuator(api, clock, "planner-1", Wish(recommendation=recommendation(9, 9), members=()))
    one.round()
    two.round()
    assert api.scales == {Role.PREFILL: 3, Role.DECODE: 2}
    assert (one.is_leader, two.is_leader) == (True, False)
    clock.advance(DURATION_S - 1)
    two.round()
    assert not one.is_leader, "a leader that could not renew stops before another may start"
    assert api.scales[Role.PREFILL] == 3
    clock.advance(1.5)
    two.round()
    assert two.is_leader
    assert api.scales == {Role.PREFILL: 9, Role.DECODE: 9}


async def test_a_leader_that_leaves_gives_the_lease_back_and_the_next_one_starts_at_once() -> None:
    api, clock, stop = Api(), ManualClock(100.0), asyncio.Event()
    one = actuator(api, clock, "planner-0", Wish(recommendation=recommendation(3, 2), members=()))
    two = actuator(api, clock, "planner-1", Wish(recommendation=recommendation(9, 9), members=()))
    one.round()
    stop.set()
    one.hurry()
    await asyncio.wait_for(one.run(stop), 5.0)
    assert api.lease_now is not None
    assert (api.lease_now.holder, one.is_leader) == ("", False)
    two.round()
    assert two.is_leader


async def test_who_does_not_lead_takes_nobodys_lease_away() -> None:
    api, clock, stop = Api(), ManualClock(100.0), asyncio.Event()
    actuator(api, clock, "planner-0", Wish(recommendation=None, members=())).round()
    stop.set()
    await asyncio.wait_for(actuator(api, clock, "planner-1", Wish(recommendation=None, members=())).run(stop), 5.0)
    assert api.lease_now is not None
    assert api.lease_now.holder == "planner-0"


def test_a_round_that_is_under_way_when_the_planner_leaves_writes_nothing_more() -> None:
    """The Lease goes back behind it: what it wrote then would be written beside another leader."""
    api = Api()
    wish = Wish(recommendation=recommendation(3, 2), members=(member("b", 3),))
    leaving = actuator(api, ManualClock(1.0), "a", wish)
    leaving._read = lambda: (leaving.hurry(), wish)[1]
    leaving.round()
    assert api.scales == {Role.PREFILL: 1, Role.DECODE: 1}
    assert api.costs == {}


def test_a_leader_that_renews_keeps_the_lease() -> None:
    api, clock = Api(), ManualClock(100.0)
    one, two = (actuator(api, clock, name, Wish(recommendation=None, members=())) for name in ("a", "b"))
    for _ in range(20):
        one.round()
        two.round()
        clock.advance(5.0)
    assert api.lease_now is not None
    assert api.lease_now.holder == "a"


def test_nothing_is_set_before_anything_was_decided() -> None:
    api = Api()
    actuator(api, ManualClock(1.0), "a", Wish(recommendation=None, members=())).round()
    assert api.scales == {Role.PREFILL: 1, Role.DECODE: 1}


def test_a_lease_that_was_written_meanwhile_is_not_held() -> None:
    api = Api(lease_now=LeaseView(holder="", version="7"))
    stale = replace(LeaseView(holder="", version="6"))
    step, _ = next_step(stale, Watched(), me="a", now=0.0)
    assert step is Step.TAKE
    assert not api.hold(step, me="a", version=stale.version)


def test_the_emptiest_pod_is_the_cheapest_and_small_changes_are_not_written() -> None:
    costs = deletion_costs([member("a", 0), member("b", 5), member("c", 7), member("d", 9, WorkerState.DRAINING)])
    assert costs == {"a": 0, "b": 8, "c": 8}


def test_a_pod_that_is_gone_does_not_keep_the_others_from_being_marked() -> None:
    api = Api(missing=frozenset({"a"}))
    wish = Wish(recommendation=None, members=(member("a", 1), member("b", 3)))
    one = actuator(api, ManualClock(1.0), "x", wish)
    one.round()
    assert api.costs == {"b": 4}
    assert one._metrics.value(catalogue.PLANNER_PATCHES, outcome="refused") == 1


def test_a_cost_that_was_refused_is_written_once_the_api_takes_it() -> None:
    """It was taken for written: a pod whose load did not change kept the wrong cost for good."""
    api, clock = Api(missing=frozenset({"a"})), ManualClock(1.0)
    one = actuator(api, clock, "x", Wish(recommendation=None, members=(member("a", 1), member("b", 3))))
    one.round()
    api.missing = frozenset()
    one.round()
    assert api.written == ["b"], "not with every round"
    for _ in range(2):
        clock.advance(REFUSED_S)
        one.round()
    assert api.written == ["b", "a"]


def test_what_is_refused_keeps_nobody_else_waiting() -> None:
    """More of them than are written in a round, and they come first."""
    names = [f"{number:02}" for number in range(MAX_COSTS)]
    api, clock = Api(missing=frozenset(names)), ManualClock(1.0)
    one = actuator(api, clock, "x", Wish(recommendation=None, members=tuple(member(name, 1) for name in [*names, "z"])))
    one.round()
    assert api.costs == {}
    one.round()
    assert api.costs == {"z": 2}


def test_pods_are_left_alone_by_a_planner_that_may_only_set_scales() -> None:
    api = Api()
    wish = Wish(recommendation=recommendation(3, 2), members=(member("b", 3),))
    one = actuator(api, ManualClock(1.0), "x", wish, marks_pods=False)
    one.round()
    assert api.scales == {Role.PREFILL: 3, Role.DECODE: 2}
    assert api.costs == {}
    assert one._metrics.value(catalogue.PLANNER_PATCHES, outcome="refused") == 0


def test_pods_are_marked_before_a_fleet_shrinks() -> None:
    """A ReplicaSet looks once: at what they cost when its number changes."""
    api = Api()
    actuator(api, ManualClock(1.0), "x", Wish(recommendation=recommendation(1, 0), members=(member("b", 3),))).round()
    assert api.written == ["b", Role.DECODE]


def test_where_an_hpa_sets_the_scales_pods_may_be_marked_all_the_same() -> None:
    api = Api()
    wish = Wish(recommendation=recommendation(3, 2), members=(member("b", 3),))
    actuator(api, ManualClock(1.0), "x", wish, sets_scales=False).round()
    assert api.scales == {Role.PREFILL: 1, Role.DECODE: 1}
    assert api.costs == {"b": 4}


def test_who_leads_again_does_not_trust_what_it_wrote_before() -> None:
    api, clock = Api(), ManualClock(100.0)
    one, two = (
        actuator(api, clock, name, Wish(recommendation=None, members=(member("b", count),)))
        for name, count in (("x", 3), ("y", 9))
    )
    for planner in (one, two):
        planner.round()
    clock.advance(DURATION_S + 1)
    for planner in (two, one):
        planner.round()
    assert api.costs == {"b": 16}
    clock.advance(DURATION_S + 1)
    one.round()
    assert one.is_leader
    assert api.costs == {"b": 4}
