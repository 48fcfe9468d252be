"""The in-memory twin of Redis: a server object that clients share, and that can be paused, cut, emptied, refused.

Passes the same conformance suite as the Redis store. Works in virtual time: it knows the clock it is given, no other.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, assert_never

from common.core.clock import Clock
from common.directory.store import (
    Append,
    Command,
    Decide,
    Entry,
    EntryId,
    Join,
    Leave,
    Memory,
    Put,
    Remove,
    Renew,
    StoreTrouble,
    trouble,
)

T = TypeVar("T")


@dataclass(slots=True)
class _Held:
    """A key's content: a value, a set or a stream."""

    expires_at: float
    value: bytes = b""
    members: set[str] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)


Image = dict[str, _Held]


class MemoryServer:
    """The data, and the ways in which a server fails. Writer: clients through `submit`, the test through the rest."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._waiting: list[Callable[[], None]] = []
        self._is_paused = False
        self._is_down = False
        self._cut: set[str] = set()
        self._refusal: StoreTrouble | None = None

    def pause(self) -> None:
        """Like SIGSTOP: commands wait, and are carried out on resume even if nobody waits for the answer any more."""
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        waiting, self._waiting = self._waiting, []
        for carry_out in waiting:
            carry_out()

    def stop(self) -> None:
        """Like SIGKILL: connections break, waiting commands are lost, data too."""
        self._is_down = True
        self._waiting.clear()
        self.empty()

    def start(self) -> None:
        """Up again after `stop`, empty."""
        if self._is_down:
            self._is_down = self._is_paused = False

    def empty(self) -> None:
        self._held.clear()

    def image(self) -> Image:
        """What a snapshot on disk, or a replica that lags, holds: everything as it is now, with its expiry."""
        return {
            key: _Held(held.expires_at, value=held.value, members=set(held.members), entries=list(held.entries))
            for key, held in self._held.items()
        }

    def restore(self, image: Image) -> None:
        """Like a restart from an older snapshot, or a replica that takes over: what was written since is lost."""
        self._held = image

    def cut(self, client: str) -> None:
        """The network between one client and the server is gone."""
        self._cut.add(client)

    def heal(self, client: str) -> None:
        self._cut.discard(client)

    def refuse_writes(self, kind: StoreTrouble | None) -> None:
        """Like maxmemory or a read-only replica; None accepts writes again."""
        self._refusal = kind

    @property
    def keys(self) -> dict[str, float]:
        """Live keys with their remaining seconds."""
        now = self._clock.monotonic()
        return {key: held.expires_at - now for key, held in self._held.items() if held.expires_at > now}

    @property
    def num_bytes(self) -> int:
        """Of live values and entries."""
        live = [self._held[key] for key in self.keys]
        return sum(len(held.value) + sum(len(entry.value) for entry in held.entries) for held in live)

    async def submit(self, client: str, operation: Callable[["MemoryServer"], T], *, is_write: bool) -> T:
        """Carry out `operation` when the server is there. A cut client waits for ever: its deadline ends that."""
        if self._is_down:
            raise trouble(StoreTrouble.CONNECTION, "connection refused")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if client in self._cut:
            return await answer

        def carry_out() -> None:
            if is_write and self._refusal is not None:
                if not answer.done():
                    answer.set_exception(trouble(self._refusal, f"write refused: {self._refusal}"))
                return
            result = operation(self)
            if not answer.done():
                answer.set_result(result)

        if self._is_paused:
            self._waiting.append(carry_out)
        else:
            await asyncio.sleep(0)  # a command is never answered in the same turn of the loop
            carry_out()
        return await answer

    def live(self, key: str) -> _Held | None:
        """A key's content unless it expired."""
        held = self._held.get(key)
        if held is not None and held.expires_at <= self._clock.monotonic():
            del self._held[key]
            return None
        return held

    def apply(self, command: Command) -> bool:
        """Carry out one command; its reply."""
        match command:
            case Put():
                self._held[command.key] = _Held(self._expiry(command.ttl_s), value=command.value)
            case Renew():
                held = self.live(command.key)
                if held is None:
                    return False
                held.expires_at = self._expiry(command.ttl_s)
            case Remove():
                is_there = self.live(command.key) is not None
                self._held.pop(command.key, None)
                return is_there
            case Join():
                held = self._kept(command.key, command.ttl_s)
                held.members.add(command.member)
            case Leave():
                if (held := self.live(command.key)) is not None:
                    held.members.difference_update(command.members)
                    if not held.members:
                        del self._held[command.key]
            case Append():
                held = self._kept(command.key, command.ttl_s)
                held.entries.append(Entry(id=self._next_id(held), value=command.value))
                del held.entries[: -command.max_entries]
            case _:
                assert_never(command)
        return True

    def _kept(self, key: str, ttl_s: float) -> _Held:
        held = self.live(key) or _Held(0.0)
        held.expires_at = self._expiry(ttl_s)
        self._held[key] = held
        return held

    def _expiry(self, ttl_s: float) -> float:
        return self._clock.monotonic() + ttl_s

    def _next_id(self, stream: _Held) -> EntryId:
        milliseconds = int(self._clock.wall() * 1000)
        last = stream.entries[-1].id if stream.entries else EntryId(0, 0)
        return (
            EntryId(milliseconds, 0)
            if milliseconds > last.milliseconds
            else EntryId(last.milliseconds, last.counter + 1)
        )


class MemoryStore:
    """One client of a MemoryServer."""

    def __init__(self, server: MemoryServer, client: str) -> None:
        self._server = server
        self._client = client

    async def write(self, commands: Sequence[Command]) -> tuple[bool, ...]:
        planned = tuple(commands)
        return await self._server.submit(self._client, lambda server: tuple(map(server.apply, planned)), is_write=True)

    async def exchange(self, key: str, decide: Decide) -> tuple[bool, ...] | None:
        (before,) = await self.read((key,))
        commands = decide(before)
        if commands is None:
            return None

        def swap(server: MemoryServer) -> tuple[bool, ...] | None:
            held = server.live(key)
            if (held.value if held else None) != before:
                return None
            return tuple(map(server.apply, commands))

        return await self._server.submit(self._client, swap, is_write=True)

    async def read(self, keys: Sequence[str]) -> tuple[bytes | None, ...]:
        def look(server: MemoryServer) -> tuple[bytes | None, ...]:
            found = [server.live(key) for key in keys]
            return tuple(held.value if held else None for held in found)

        return await self._server.submit(self._client, look, is_write=False)

    async def members(self, key: str) -> frozenset[str]:
        def look(server: MemoryServer) -> frozenset[str]:
            held = server.live(key)
            return frozenset(held.members) if held else frozenset()

        return await self._server.submit(self._client, look, is_write=False)

    async def entries(self, key: str, after: EntryId, max_entries: int) -> tuple[Entry, ...]:
        def look(server: MemoryServer) -> tuple[Entry, ...]:
            held = server.live(key)
            newer = [entry for entry in held.entries if entry.id > after] if held else []
            return tuple(newer[:max_entries])

        return await self._server.submit(self._client, look, is_write=False)

    async def newest(self, key: str) -> EntryId | None:
        def look(server: MemoryServer) -> EntryId | None:
            held = server.live(key)
            return held.entries[-1].id if held and held.entries else None

        return await self._server.submit(self._client, look, is_write=False)

    async def memory(self) -> Memory | None:
        def look(server: MemoryServer) -> Memory:
            return Memory(used=server.num_bytes, limit=None)

        return await self._server.submit(self._client, look, is_write=False)

    async def drop(self) -> None:
        """There is no connection."""
