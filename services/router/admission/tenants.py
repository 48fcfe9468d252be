"""What each tenant has used and may still use. Bounded: whoever invents names shares the state of one.

Fairness is by virtual counters: each tenant's counter grows by the work it was given, over its weight, and the tenant
with the lowest goes next. One that comes back after a pause starts about where the busy ones are: pausing saves little.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from common.config.tenants import TenantTerms
from common.core.errors import ELSEWHERE_FACT, Reason, Refused
from common.core.ids import TenantId
from services.router.admission.bucket import Bucket
from services.router.admission.limits import TenantLimits
from services.router.admission.roster import Roster
from services.router.admission.ticket import Ticket

STRANGERS = TenantId("*")
"""Who shares one state when there are more tenants than may have their own."""

MAX_LOOKS = 16
"""Chosen: how many tenants are looked at to find one to forget; more would make a flood of names expensive."""

ELSEWHERE_S = 0.1
"""Chosen: whoever comes again comes to another router, as clients spread."""

RECENT_S = 30.0
"""Chosen: places are kept for a tenant that asks now and then, not for one that asked once."""


@dataclass(slots=True)
class Tenant:
    """Writer: the line. `counter`: weighted work given so far. `num_streams` wait or run, `num_active` were let in."""

    id: TenantId
    terms: TenantTerms
    requests: Bucket
    tokens: Bucket
    seen_at: float
    counter: float = 0.0
    num_streams: int = 0
    num_active: int = 0

    def charge(self, work: float) -> None:
        """Counts work; negative corrects an estimate that was too high."""
        self.counter += work / self.terms.weight


@dataclass(slots=True)
class Tenants:
    """Writer: the line. Every tenant's limits are divided by the roster."""

    limits: TenantLimits
    roster: Roster
    _known: dict[TenantId, Tenant] = field(default_factory=dict)
    _floor: float = 0.0

    def __len__(self) -> int:
        return len(self._known)

    def find(self, name: TenantId, now: float) -> Tenant:
        """The tenant's state, made if need be; that of the strangers when there are too many."""
        known = self._known.pop(name, None)
        if known is None:
            if name not in self.limits.named and name != STRANGERS and not self._has_room(now):
                return self.find(STRANGERS, now)
            terms = self.limits.terms(name)
            known = Tenant(id=name, terms=terms, requests=Bucket(now), tokens=Bucket(now), seen_at=now)
        known.seen_at = now
        self._known[name] = known  # the last to be forgotten
        return known

    def check(self, tenant: Tenant, ticket: Ticket, now: float, *, chance: float) -> None:
        """Raises Refused(RATE_LIMITED) where one more request is over a limit. `chance` spreads the retries."""
        terms, roster = tenant.terms, self.roster
        if terms.is_limited and not roster.has_part:
            raise _elsewhere(ticket, "requests", "this router has just come, and has no part of its limits yet", chance)
        if terms.max_streams is not None:
            part = roster.streams_part(terms.max_streams, tenant.id)
            if part == 0:
                why = f"none of its {terms.max_streams} concurrent streams may be here now"
                raise _elsewhere(ticket, "streams", why, chance)
            if tenant.num_streams >= part:
                raise _limited(ticket, "streams", f"{terms.max_streams} concurrent streams", 1.0 + chance)
        if (rate := self._share(terms.requests_per_s)) is not None:
            wait_s = tenant.requests.wait_s(1.0, rate=rate, now=now)
            if wait_s > 0:
                raise _limited(ticket, "requests", f"{terms.requests_per_s:g} requests per second", wait_s + chance)
        if (rate := self._share(terms.tokens_per_s)) is not None:
            wait_s = tenant.tokens.wait_s(_reserved(ticket), rate=rate, now=now)
            if wait_s > 0:
                raise _limited(ticket, "tokens", f"{terms.tokens_per_s:g} tokens per second", wait_s + chance)

    def enter(self, tenant: Tenant, ticket: Ticket, now: float) -> None:
        """Counts one more stream, with all that it may use."""
        if (rate := self._share(tenant.terms.requests_per_s)) is not None and not ticket.has_run:
            tenant.requests.take(1.0, rate=rate, now=now)
        self._take_tokens(tenant, _reserved(ticket), now)
        tenant.num_streams += 1

    def leave(self, tenant: Tenant, ticket: Ticket, generated_tokens: int, now: float) -> None:
        """Ends a stream; tokens that it did not use after all are given back."""
        tenant.num_streams -= 1
        used = generated_tokens + (0 if ticket.has_run else ticket.num_tokens)
        self._take_tokens(tenant, used - _reserved(ticket), now)

    def catch_up(self, tenant: Tenant, *, credit: float) -> None:
        """A tenant that had nothing waiting begins to: beside those that did, and before them by a little work that it
        may have saved up, so that two requests of a quiet tenant at once do not take turns with a flood."""
        tenant.counter = max(tenant.counter, self._floor - credit / tenant.terms.weight)

    def held(self) -> Iterable[tuple[TenantId, int, int]]:
        """Of tenants whose streams are limited: how many they have here, and the limit."""
        for tenant in self._known.values():
            if tenant.num_streams and tenant.terms.max_streams is not None:
                yield tenant.id, tenant.num_streams, tenant.terms.max_streams

    def num_recent(self, now: float) -> int:
        """Tenants that asked for something lately, as far as it is worth counting."""
        latest = zip(range(MAX_LOOKS), reversed(self._known.values()), strict=False)
        return sum(tenant.seen_at >= now - RECENT_S for _, tenant in latest)

    def raise_floor(self, waiting: Iterable[Tenant]) -> None:
        """The lowest counter of those that wait: where newcomers begin. Never falls."""
        self._floor = max(self._floor, min((tenant.counter for tenant in waiting), default=self._floor))

    def _take_tokens(self, tenant: Tenant, amount: float, now: float) -> None:
        if (rate := self._share(tenant.terms.tokens_per_s)) is not None:
            tenant.tokens.take(amount, rate=rate, now=now)

    def _share(self, limit: float | None) -> float | None:
        """This router's part of a rate. One that has no part takes nobody new, and divides as if it were alone."""
        return None if limit is None else limit * (self.roster.rate_part() or 1.0)

    def _has_room(self, now: float) -> bool:
        """Room for one more, after forgetting somebody if need be."""
        own = len(self._known) - sum(name in self._known for name in self.limits.named)
        if own < self.limits.max_tenants:
            return True
        for _, name in zip(range(MAX_LOOKS), self._known, strict=False):
            if name not in self.limits.named and self._is_forgettable(self._known[name], now):
                del self._known[name]
                return True
        return False

    def _is_forgettable(self, tenant: Tenant, now: float) -> bool:
        """Nothing here, no debt: it would come back just as a newcomer."""
        terms = tenant.terms
        requests, tokens = self._share(terms.requests_per_s), self._share(terms.tokens_per_s)
        return (
            tenant.num_streams == 0
            and tenant.counter <= self._floor
            and (requests is None or tenant.requests.is_full(rate=requests, now=now))
            and (tokens is None or tenant.tokens.is_full(rate=tokens, now=now))
        )


def _reserved(ticket: Ticket) -> int:
    """Tokens that it may use at most: they are counted before, and what is left is given back."""
    return ticket.max_new_tokens + (0 if ticket.has_run else ticket.num_tokens)


def _limited(ticket: Ticket, what: str, limit: str, retry_after_s: float) -> Refused:
    return Refused(
        message=f"tenant {ticket.tenant} is limited to {limit}",
        reason=Reason.RATE_LIMITED,
        quota_subject=f"tenant:{what}",
        retry_after_s=retry_after_s,
    )


def _elsewhere(ticket: Ticket, what: str, why: str, chance: float) -> Refused:
    """The tenant may have room, but not here: another router knows."""
    return Refused(
        message=f"tenant {ticket.tenant}: {why}; ask another one",
        reason=Reason.RATE_LIMITED,
        quota_subject=f"tenant:{what}",
        retry_after_s=ELSEWHERE_S * (1.0 + chance),
        facts={ELSEWHERE_FACT: "1"},
    )
