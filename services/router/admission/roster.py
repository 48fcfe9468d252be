"""Which routers divide the tenants' limits, and this router's part. Pure: the caller brings what the board says.

    counts nobody -> has a list, and no part -> everybody on the list says the same: its part by the list of the moment

Whoever has a part is on everybody's list until it is gone, and a longer list makes no part larger: so the parts in use
add up to the limit at most, even while lists differ. Streams that began under a shorter list may be more than a part:
whoever has such says how many, and the others leave as many out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from common.core.ids import RouterId, TenantId
from common.core.queue import MAX_EXCESS, LimitParts

DIGEST_BYTES = 8


@dataclass(slots=True)
class Roster:
    """Writer: whoever reads the board.

    A board that was emptied is full again after everybody's next heartbeat. So who is missing on it is counted for
    `keep_s` more, and whoever comes looks at it for `settle_s` before it has a part. Who cannot reach Redis for longer
    is taken for gone.
    """

    me: RouterId
    keep_s: float
    settle_s: float = 0.0
    listed: tuple[RouterId, ...] = ()
    """Whom this router counts, itself included."""
    has_part: bool = False
    _said: dict[RouterId, LimitParts | None] = field(default_factory=dict)
    """Of all others that are counted, the last word; None: of a release that says nothing, and counts whom it sees."""
    _looking_since: float | None = None
    _missing_since: dict[RouterId, float] = field(default_factory=dict)

    @classmethod
    def alone(cls) -> "Roster":
        """Of a router without others: tests, simulations."""
        me = RouterId("router-0")
        return cls(me=me, keep_s=0.0, listed=(me,), has_part=True)

    @property
    def digest(self) -> int:
        """What this router says of its list. 0: it has none."""
        return digest("\n".join(self.listed)) if self.listed else 0

    def see(self, others: Mapping[RouterId, LimitParts | None], now: float) -> bool:
        """What the board says now of everybody but this router. Answers whether the list changed."""
        self._said.update(others)
        for router in list(self._said):
            if router in others:
                self._missing_since.pop(router, None)
            elif now - self._missing_since.setdefault(router, now) >= self.keep_s:
                del self._said[router], self._missing_since[router]
        before, self.listed = self.listed, tuple(sorted({self.me, *self._said}))
        if self._looking_since is None or self.listed != before:
            self._looking_since = now
        if now - self._looking_since >= self.settle_s:
            mine = self.digest
            self.has_part |= all(word is None or word.roster == mine for word in self._said.values())
        return self.listed != before

    def see_nothing(self) -> None:
        """The board did not answer: who is missing on the next one was not missing meanwhile."""
        self._missing_since.clear()
        self._looking_since = None

    def rate_part(self) -> float:
        """This router's part of what flows: requests and tokens per second."""
        return 1.0 / len(self.listed) if self.has_part else 0.0

    def streams_part(self, limit: int, tenant: TenantId) -> int:
        """This router's part of what is counted, less what others have above theirs."""
        if not self.has_part:
            return 0
        part, name = self._part(limit, tenant), digest(tenant)
        return max(0, part - sum(word.excess.get(name, 0) for word in self._said.values() if word is not None))

    def words(self, held: Iterable[tuple[TenantId, int, int]]) -> LimitParts:
        """What this router says: of tenants with a limit, how many streams are held here, and the limit."""
        excess = {}
        for tenant, num_streams, limit in held:
            if (above := num_streams - self._part(limit, tenant)) > 0:
                excess[digest(tenant)] = above
        if len(excess) > MAX_EXCESS:
            return LimitParts(roster=0)
        return LimitParts(roster=self.digest, excess=excess)

    def _part(self, limit: int, tenant: TenantId) -> int:
        """The limit in whole parts; what is left over goes one each to routers that the tenant's name draws."""
        if not self.listed:
            return 0
        part, rest = divmod(limit, len(self.listed))
        if not rest:
            return part
        drawn = sorted(self.listed, key=lambda router: digest(f"{tenant}\n{router}"))
        return part + (self.me in drawn[:rest])


def digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=DIGEST_BYTES).digest(), "little") or 1
