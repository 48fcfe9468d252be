"""The store in a real Redis or Valkey: plain commands, pipelines, WATCH/MULTI. The door to the redis library.

No retries, no scripts, no blocking commands, no KEYS. One connection per store, thrown away after every failure.
A key that holds another type than ours counts as absent, and whoever writes to it removes it.
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar, assert_never, cast

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from common.core.errors import Unavailable
from common.directory.store import (
    STREAM_START,
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

FIELD = b"v"
"""The one field of a stream entry: its value is a protobuf."""

MAX_NAME_BYTES = 256
"""Of a set's member: longer ones are nobody's name."""

T = TypeVar("T")

_STRANGE = (ValueError, TypeError, LookupError, AttributeError)
"""What the library raises on replies of another shape: a wrong port, something in between."""

_DENIED = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.NoPermissionError)


class RedisStore:
    """One connection to one Redis. Raises Unavailable. Every call needs a deadline around it: the guard has it.

    `timeout_s` bounds the attempt to connect; `ca_file` is the authority of a rediss:// server, if not a public one.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        username: str | None = None,
        password: str | None = None,
        ca_file: str = "",
    ) -> None:
        credentials = {"username": username, "password": password} if username else {}
        trust = {"ssl_ca_certs": ca_file} if ca_file and url.startswith("rediss:") else {}
        pool = redis.asyncio.ConnectionPool.from_url(
            url,
            max_connections=1,
            protocol=2,
            socket_timeout=None,  # with one, the library's wait_for swallows cancellations on Python 3.11
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            **credentials,
            **trust,
        )
        self._client = redis.asyncio.Redis(connection_pool=pool)
        self._pool = pool

    async def write(self, commands: Sequence[Command]) -> tuple[bool, ...]:
        async with _translated(), self._client.pipeline(transaction=True) as pipe:
            return await self._carry_out(pipe, commands)

    async def exchange(self, key: str, decide: Decide) -> tuple[bool, ...] | None:
        async with _translated(), self._client.pipeline(transaction=True) as pipe:
            await pipe.watch(key)
            before = await _absent_if_foreign(cast(Awaitable[bytes | None], pipe.get(key)))
            commands = decide(before)
            if commands is None:
                return None
            pipe.multi()  # type: ignore[no-untyped-call]  # the library left it untyped
            try:
                return await self._carry_out(pipe, commands)
            except exceptions.WatchError:
                return None

    async def read(self, keys: Sequence[str]) -> tuple[bytes | None, ...]:
        if not keys:
            return ()
        async with _translated():
            values = await cast(Awaitable[list[bytes | None]], self._client.mget(list(keys)))
            if len(values) != len(keys):
                raise trouble(StoreTrouble.MISMATCH, f"{len(values)} values for {len(keys)} keys")
            if not all(value is None or isinstance(value, bytes) for value in values):
                raise trouble(StoreTrouble.MISMATCH, "values that are no bytes")
            return tuple(values)

    async def members(self, key: str) -> frozenset[str]:
        async with _translated():
            found = await _absent_if_foreign(cast(Awaitable[set[bytes]], self._client.smembers(key)))
            return frozenset(name for name in map(_name, found or ()) if name)

    async def entries(self, key: str, after: EntryId, max_entries: int) -> tuple[Entry, ...]:
        async with _translated():
            start = "-" if after == STREAM_START else f"({after}"
            reply = self._client.xrange(key, min=start, max="+", count=max_entries)
            found = await _absent_if_foreign(cast(Awaitable[list[tuple[bytes, dict[bytes, bytes]]]], reply))
            return tuple(Entry(id=_entry_id(raw), value=fields.get(FIELD, b"")) for raw, fields in found or ())

    async def newest(self, key: str) -> EntryId | None:
        async with _translated():
            reply = self._client.xrevrange(key, count=1)
            found = await _absent_if_foreign(cast(Awaitable[list[tuple[bytes, dict[bytes, bytes]]]], reply))
            return _entry_id(found[0][0]) if found else None

    async def memory(self) -> Memory | None:
        async with _translated():
            try:
                found = await cast(Awaitable[dict[str, object]], self._client.info("memory"))
            except exceptions.NoPermissionError:
                return None
            used, limit = found.get("used_memory"), found.get("maxmemory")
            return Memory(used=used, limit=limit or None) if isinstance(used, int) and isinstance(limit, int) else None

    async def drop(self) -> None:
        with suppress(exceptions.RedisError, OSError):  # an end that is not confirmed in time is one all the same
            await self._pool.disconnect(inuse_connections=True)

    async def _carry_out(self, pipe: redis.asyncio.client.Pipeline, commands: Sequence[Command]) -> tuple[bool, ...]:
        """One transaction. Keys that hold another type are removed; the error tells that nothing was written there."""
        asked = [(command.key, words) for command in commands for words in _words(command)]
        for _key, words in asked:
            pipe.execute_command(*words)
        raw = await pipe.execute(raise_on_error=False)
        refused = [reply for reply in raw if isinstance(reply, exceptions.RedisError)]
        if foreign := {key for (key, _), reply in zip(asked, raw, strict=False) if _is_foreign(reply)}:
            await self._client.delete(*foreign)
        if refused:
            raise refused[0]
        return _replies(commands, raw)


def _words(command: Command) -> tuple[tuple[str | bytes | int, ...], ...]:
    """A command in the server's words; two where the key's expiry is renewed by a second one."""
    key = command.key
    match command:
        case Put():
            return (("SET", key, command.value, "PX", _milliseconds(command.ttl_s)),)
        case Renew():
            return (("PEXPIRE", key, _milliseconds(command.ttl_s)),)
        case Remove():
            return (("DEL", key),)
        case Join():
            return ("SADD", key, command.member), ("PEXPIRE", key, _milliseconds(command.ttl_s))
        case Leave():
            return (("SREM", key, *command.members),)
        case Append():
            append = ("XADD", key, "MAXLEN", "~", command.max_entries, "*", FIELD, command.value)
            return append, ("PEXPIRE", key, _milliseconds(command.ttl_s))
        case _:
            assert_never(command)


def _replies(commands: Sequence[Command], raw: Sequence[object]) -> tuple[bool, ...]:
    """One answer per command out of the transaction's replies."""
    widths = [len(_words(command)) for command in commands]
    if len(raw) != sum(widths):
        raise trouble(StoreTrouble.MISMATCH, f"{len(raw)} replies for {sum(widths)} commands")
    answers, at = [], 0
    for command, width in zip(commands, widths, strict=True):
        answers.append(bool(raw[at]) if isinstance(command, Renew | Remove) else True)
        at += width
    return tuple(answers)


async def _absent_if_foreign(reply: Awaitable[T]) -> T | None:
    """None where the key holds another type."""
    try:
        return await reply
    except exceptions.ResponseError as error:
        if _is_foreign(error):
            return None
        raise


def _is_foreign(reply: object) -> bool:
    return isinstance(reply, exceptions.ResponseError) and "WRONGTYPE" in str(reply)


def _name(member: bytes) -> str | None:
    """A set's member as a name, or None: others may write to a Redis, too."""
    try:
        return member.decode() if len(member) <= MAX_NAME_BYTES else None
    except UnicodeDecodeError:
        return None


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _entry_id(raw: bytes) -> EntryId:
    milliseconds, _, counter = raw.decode().partition("-")
    return EntryId(int(milliseconds), int(counter))


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """Every failure of the library as one of ours."""
    try:
        yield
    except Unavailable:
        raise
    except (exceptions.TimeoutError, TimeoutError) as error:
        raise trouble(StoreTrouble.TIMEOUT, "Redis did not answer in time") from error
    except _DENIED as error:
        raise trouble(StoreTrouble.DENIED, f"Redis refuses this user or password: {_brief(error)}") from error
    except exceptions.ReadOnlyError as error:
        raise trouble(StoreTrouble.READONLY, "Redis is a read-only replica") from error
    except exceptions.OutOfMemoryError as error:
        raise trouble(StoreTrouble.FULL, "Redis is full and evicts nothing") from error
    except (exceptions.ConnectionError, OSError) as error:
        raise trouble(StoreTrouble.CONNECTION, f"no connection to Redis: {_brief(error)}") from error
    except exceptions.AskError as error:
        raise trouble(StoreTrouble.OTHER, f"a Redis Cluster keeps our keys on another node: {_brief(error)}") from error
    except exceptions.RedisError as error:
        raise trouble(_kind_of(error), f"Redis refuses a command: {_brief(error)}") from error
    except _STRANGE as error:
        raise trouble(StoreTrouble.MISMATCH, f"no reply of a Redis: {type(error).__name__}") from error


def _kind_of(error: Exception) -> StoreTrouble:
    """Replies that the library leaves without a class of their own, among them those inside a failed transaction."""
    text = f"{error} {error.__cause__ or ''}"
    words = (
        ("NOPERM", StoreTrouble.DENIED),
        ("NOAUTH", StoreTrouble.DENIED),
        ("WRONGPASS", StoreTrouble.DENIED),
        ("READONLY", StoreTrouble.READONLY),
        ("OOM", StoreTrouble.FULL),
        ("maxmemory", StoreTrouble.FULL),
        ("LOADING", StoreTrouble.CONNECTION),
        ("WRONGTYPE", StoreTrouble.MISMATCH),
    )
    return next((kind for word, kind in words if word in text), StoreTrouble.OTHER)


def _brief(error: Exception) -> str:
    """The first words of a reply: they name the rule, never a value. Inside a transaction the library puts the command
    before them, value and all."""
    reply = str(error).rpartition(" of pipeline caused error: ")[2].strip("(',)\"")
    return " ".join(reply.split()[:12]) or type(error).__name__
