"""Names of the dead leave the set that they stand in.

A set of names lives as long as anybody renews it, and whoever dies takes nothing out; pods that are replaced come under
new names. So the names are a ring, and each living owner takes out those that follow its own, up to the next that
lives: whoever is left, every dead name lies behind somebody.
"""

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from common.core.clock import Clock
from common.core.errors import Unavailable
from common.directory.guard import Guard
from common.directory.settings import DirectorySettings
from common.directory.store import Command, Leave, Store, StoreTrouble

T = TypeVar("T")

LOOK_S = 60.0
"""Chosen: pods are replaced by the minute at most, and a name that is too much costs every look a few bytes."""

MAX_NAMES = 64
"""Chosen: at a time, three round trips each."""

SHARE_OF_HEARTBEAT = 0.25
"""Chosen: a Redis that answers slowly may hold up the heartbeat behind it by so much, and one answer."""


class Neighbour:
    """One owner of one name. Writer of the set, not of what the names stand for.

    A name goes only if its record is still absent when the set changes: its owner writes both in one transaction.
    """

    def __init__(
        self,
        guard: Guard,
        settings: DirectorySettings,
        *,
        clock: Clock,
        me: str,
        names: str,
        record_of: Callable[[str], str],
    ) -> None:
        """`names`: the set's key; `record_of`: the key of a name's lease."""
        self._guard = guard
        self._most_s = SHARE_OF_HEARTBEAT * settings.heartbeat_s
        self._clock = clock
        self._me = me
        self._names = names
        self._record_of = record_of
        self._look_at = clock.monotonic() + LOOK_S

    async def tidy(self) -> None:
        """With every heartbeat; most times there is nothing to do."""
        started = self._clock.monotonic()
        if started < self._look_at:
            return
        self._look_at = started + LOOK_S
        names = await self._guard.run(self._read)
        others = following(self._me, names or ())[:MAX_NAMES]
        for name in others:
            if not await self._guard.run(partial(self._drop, name)):
                return  # it lives, or Redis does not answer
            if self._clock.monotonic() > started + self._most_s:
                break
        if others:  # and all that were looked at are dead: the next heartbeat goes on
            self._look_at = started

    async def _read(self, store: Store) -> frozenset[str]:
        return await _if_allowed(store.members(self._names), frozenset())

    async def _drop(self, name: str, store: Store) -> bool:
        """Takes a dead one's name out. False where its owner lives."""

        def decide(record: bytes | None) -> Sequence[Command] | None:
            return (Leave(key=self._names, members=(name,)),) if record is None else None

        return await _if_allowed(store.exchange(self._record_of(name), decide), None) is not None


async def _if_allowed(answer: Awaitable[T], otherwise: T) -> T:
    """Rights of an older release do not let one look: the names stay, and no circuit opens for it."""
    try:
        return await answer
    except Unavailable as error:
        if error.facts.get("kind") == StoreTrouble.DENIED:
            return otherwise
        raise


def following(me: str, names: Iterable[str]) -> tuple[str, ...]:
    """The others in their order, from behind `me` on and round."""
    others = sorted(set(names) - {me})
    start = bisect_right(others, me)
    return tuple(others[start:] + others[:start])
