"""Those of one class who wait: by tenant, oldest first, and apart from them those who were placed before."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from common.core.ids import RequestId, TenantId
from common.core.request import Priority
from services.router.admission.tenants import Tenant
from services.router.admission.ticket import Ticket


@dataclass(eq=False, slots=True)
class Entry:
    """One ticket in the line. `work`: what it is expected to use, in prompt tokens. `is_assigned`: the fleet's own
    figures include it."""

    ticket: Ticket
    tenant: Tenant
    work: float
    offered: float
    is_assigned: bool = False


@dataclass(eq=False, slots=True)
class _Row:
    """Those of one tenant, in order of arrival."""

    tenant: Tenant
    entries: dict[RequestId, Entry] = field(default_factory=dict)
    work: float = 0.0

    def first(self) -> Entry:
        return next(iter(self.entries.values()))


class ClassQueue:
    """Writer: the line. Counts are kept, not recounted: the queue may be long when it matters."""

    def __init__(self, priority: Priority) -> None:
        self.priority = priority
        self.num_tokens = 0
        self.uncached_tokens = 0
        self._rows: dict[TenantId, _Row] = {}
        self._returning: dict[RequestId, Entry] = {}
        self._num_waiting = 0

    def __len__(self) -> int:
        return self._num_waiting

    def __iter__(self) -> Iterator[Entry]:
        yield from self._returning.values()
        for row in self._rows.values():
            yield from row.entries.values()

    def length_of(self, tenant: Tenant) -> int:
        row = self._rows.get(tenant.id)
        return 0 if row is None else len(row.entries)

    def add(self, entry: Entry) -> None:
        """Raises nothing: who may not wait was refused before."""
        ticket = entry.ticket
        if ticket.has_run:
            self._returning[ticket.request] = entry
        else:
            row = self._rows.setdefault(entry.tenant.id, _Row(tenant=entry.tenant))
            row.entries[ticket.request] = entry
            row.work += entry.work
        self._count(entry, 1)

    def remove(self, entry: Entry) -> None:
        ticket = entry.ticket
        if ticket.has_run:
            del self._returning[ticket.request]
        else:
            row = self._rows[entry.tenant.id]
            del row.entries[ticket.request]
            row.work -= entry.work
            if not row.entries:
                del self._rows[entry.tenant.id]
        self._count(entry, -1)

    def next(self) -> Entry | None:
        """Whoever was placed before, oldest first; then the oldest of the tenant that was given least."""
        if self._returning:
            return min(self._returning.values(), key=_age)
        if not self._rows:
            return None
        return min(self._rows.values(), key=lambda row: (row.tenant.counter, _age(row.first()))).first()

    def oldest(self) -> float | None:
        """When the one who waits longest arrived."""
        firsts = [entry.ticket.arrived for entry in self._returning.values()]
        firsts += [row.first().ticket.arrived for row in self._rows.values()]
        return min(firsts, default=None)

    def work(self) -> float:
        """All that waits."""
        return sum(row.work for row in self._rows.values()) + sum(entry.work for entry in self._returning.values())

    def work_before(self, tenant: Tenant, own: float) -> float:
        """What is let in before a new request of this tenant with `own` work: its own queue, and of every other
        tenant's as much as that one gets meanwhile."""
        row = self._rows.get(tenant.id)
        mine = own + (0.0 if row is None else row.work)
        before = mine - own + sum(entry.work for entry in self._returning.values())
        for other in self._rows.values():
            if other is not row:
                before += min(other.work, mine * other.tenant.terms.weight / tenant.terms.weight)
        return before

    def tenants(self) -> Iterator[Tenant]:
        """Those with somebody new in the queue."""
        return (row.tenant for row in self._rows.values())

    def _count(self, entry: Entry, change: int) -> None:
        self._num_waiting += change
        self.num_tokens += change * entry.ticket.num_tokens
        self.uncached_tokens += change * entry.ticket.uncached_tokens


def _age(entry: Entry) -> tuple[float, RequestId]:
    return entry.ticket.arrived, entry.ticket.request
