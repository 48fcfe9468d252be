"""The few commands the directory needs, as a protocol with two implementations: Redis and its in-memory twin.

Raises, from every method: Unavailable with reason DIRECTORY_UNAVAILABLE and fact `kind` (see StoreTrouble). A command
that failed may still have been carried out: callers repeat what they mean instead of counting on either.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from common.core.errors import Reason, Unavailable


class StoreTrouble(StrEnum):
    """Why a command was not carried out: the values of the metric's label."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    DENIED = "denied"
    READONLY = "readonly"
    FULL = "full"
    MISMATCH = "mismatch"
    OTHER = "other"


def trouble(kind: StoreTrouble, message: str) -> Unavailable:
    """The one error of a store."""
    return Unavailable(message=message, reason=Reason.DIRECTORY_UNAVAILABLE, facts={"kind": kind.value})


@dataclass(frozen=True, slots=True, order=True)
class EntryId:
    """Position in a stream: the server's milliseconds and a counter. Grows within one life of the data."""

    milliseconds: int
    counter: int

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.counter}"


STREAM_START = EntryId(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a stream."""

    id: EntryId
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Set a value that expires."""

    key: str
    value: bytes
    ttl_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew:
    """Postpone a key's expiry. Its reply is False when the key is gone."""

    key: str
    ttl_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Delete a key. Its reply is False when it was gone already."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Put an id into a set that expires unless somebody joins again."""

    key: str
    member: str
    ttl_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Take ids out of a set."""

    key: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """Add an entry to a stream that keeps about `max_entries` and expires unless somebody appends or renews."""

    key: str
    value: bytes
    max_entries: int
    ttl_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the server holds, in bytes. `limit` None: it has none."""

    used: int
    limit: int | None


Command = Put | Renew | Remove | Join | Leave | Append
Decide = Callable[[bytes | None], Sequence[Command] | None]


class Store(Protocol):
    """One client of one server. One user at a time: the guard in front of it serialises."""

    async def write(self, commands: Sequence[Command]) -> tuple[bool, ...]:
        """All commands as one transaction; one reply each, True unless the command says otherwise."""
        ...

    async def exchange(self, key: str, decide: Decide) -> tuple[bool, ...] | None:
        """Read `key`, then carry out what `decide` answers, if the key did not change in between.

        None when `decide` answered None, or when the key changed meanwhile: nothing was written then.
        """
        ...

    async def read(self, keys: Sequence[str]) -> tuple[bytes | None, ...]: ...

    async def members(self, key: str) -> frozenset[str]:
        """The ids in a set."""
        ...

    async def entries(self, key: str, after: EntryId, max_entries: int) -> tuple[Entry, ...]:
        """The oldest entries after a position. Never waits for new ones."""
        ...

    async def newest(self, key: str) -> EntryId | None:
        """Position of a stream's last entry; None when there is no stream."""
        ...

    async def memory(self) -> Memory | None:
        """None where this user may not ask."""
        ...

    async def drop(self) -> None:
        """Forget the connection: after a cancellation nobody may read the answer that is still on its way."""
        ...
