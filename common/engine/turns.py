"""Whose prompt is read next: class first, then the tenant that was given least lately, then the oldest.

By what tenants were given, and not by how many prompts they have here: a flood is read in the time that others leave.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping

from common.core.ids import TenantId
from common.core.request import RANK
from common.engine.plan import BatchPlan, SequenceView, seniority

WINDOW_STEPS = 32
"""Chosen: whoever was quiet may have half of so many full steps before it takes turns with one that floods; whoever
floods waits no longer for that."""

Given = Mapping[TenantId, int]
"""Tokens that a worker read lately, by tenant. Who is absent was given none."""

NOTHING: Given = {}


class Shares:
    """What each tenant was given of the last `window` tokens. Writer: the worker's core."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._grants: deque[tuple[TenantId, int]] = deque()
        self._given: Counter[TenantId] = Counter()
        self._total = 0

    @property
    def given(self) -> Given:
        return self._given

    def note(self, views: Iterable[SequenceView], plan: BatchPlan) -> None:
        """Counts what a plan reads. `views`: those it was made of."""
        tenants = {view.id: view.tenant for view in views}
        for extend in plan.extend:
            self._add(tenants[extend.sequence], extend.num_tokens)
        while self._total > self._window:
            tenant, num_tokens = self._grants.popleft()
            self._total -= num_tokens
            self._given[tenant] -= num_tokens
            if not self._given[tenant]:
                del self._given[tenant]

    def _add(self, tenant: TenantId, num_tokens: int) -> None:
        self._grants.append((tenant, num_tokens))
        self._given[tenant] += num_tokens
        self._total += num_tokens


def in_turns(views: Iterable[SequenceView], given: Given, *, most: int | None = None) -> list[SequenceView]:
    """Order in which prompts are read, at most `most` tokens of each: class first; then the oldest prompt of the tenant
    that was given least, with what it gets before. Many prompts of one tenant do not stand before the one of another,
    nor does one that goes on for long."""
    ordered = sorted(views, key=seniority)
    if len({view.tenant for view in ordered}) < 2:
        return ordered
    queues: defaultdict[tuple[int, TenantId], deque[SequenceView]] = defaultdict(deque)
    for view in ordered:
        queues[RANK[view.priority], view.tenant].append(view)
    turns: list[SequenceView] = []
    so_far = Counter(given)
    while queues:
        whose = min(queues, key=lambda each: (each[0], so_far[each[1]], seniority(queues[each][0])))
        view = queues[whose].popleft()
        so_far[view.tenant] += view.num_pending if most is None else min(view.num_pending, most)
        turns.append(view)
        if not queues[whose]:
            del queues[whose]
    return turns


def is_owed(first: SequenceView, other: SequenceView, given: Given, *, lead: int) -> bool:
    """Whether one that is read first should not be held up for this one: it is of a higher class, or its tenant was
    given less, by `lead` tokens or more."""
    if RANK[first.priority] != RANK[other.priority]:
        return RANK[first.priority] < RANK[other.priority]
    return given.get(other.tenant, 0) - given.get(first.tenant, 0) >= lead
