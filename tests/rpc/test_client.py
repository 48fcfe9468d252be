"""The dialer: one channel per incarnation."""

import asyncio

import pytest

from common.core.errors import Fenced
from common.core.ids import Epoch, WorkerId, WorkerRef
from common.rpc.client import Dialer


class RecordedChannel:
    """Knows only whether it was closed."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_closed = False

    async def close(self, grace: float | None = None) -> None:
        self.is_closed = True


def ref(worker: str, epoch: int, address: str = "127.0.0.1:1") -> WorkerRef:
    return WorkerRef(worker=WorkerId(worker), epoch=Epoch(epoch), address=address)


def dialer(max_channels: int = 8) -> Dialer:
    return Dialer(RecordedChannel, max_channels=max_channels)  # type: ignore[arg-type]


def test_the_same_incarnation_gets_the_same_channel() -> None:
    async def body() -> None:
        it = dialer()
        assert await it.channel(ref("w", 1)) is await it.channel(ref("w", 1))

    asyncio.run(body())


def test_a_new_epoch_closes_the_old_channel_and_fences_the_old_epoch() -> None:
    async def body() -> None:
        it = dialer()
        old = await it.channel(ref("w", 1))
        new = await it.channel(ref("w", 2))
        assert new is not old
        assert old.is_closed  # type: ignore[attr-defined]
        assert not new.is_closed  # type: ignore[attr-defined]
        with pytest.raises(Fenced):
            await it.channel(ref("w", 1))
        assert await it.channel(ref("w", 2)) is new

    asyncio.run(body())


def test_a_late_word_to_a_dropped_incarnation_does_not_unseat_its_successor() -> None:
    async def body() -> None:
        it = dialer()
        await it.channel(ref("w", 1))
        await it.drop(ref("w", 1))
        new = await it.channel(ref("w", 2))
        with pytest.raises(Fenced):
            await it.channel(ref("w", 1))
        assert await it.channel(ref("w", 2)) is new
        assert not new.is_closed  # type: ignore[attr-defined]

    asyncio.run(body())


def test_the_channel_unused_for_longest_makes_room() -> None:
    async def body() -> None:
        it = dialer(max_channels=2)
        first, second = await it.channel(ref("a", 1)), await it.channel(ref("b", 1))
        await it.channel(ref("a", 1))
        await it.channel(ref("c", 1))
        assert second.is_closed  # type: ignore[attr-defined]
        assert not first.is_closed  # type: ignore[attr-defined]
        assert not (await it.channel(ref("b", 1))).is_closed  # type: ignore[attr-defined]

    asyncio.run(body())


def test_drop_closes_only_the_named_incarnation_and_allows_dialling_again() -> None:
    async def body() -> None:
        it = dialer()
        channel = await it.channel(ref("w", 1))
        await it.drop(ref("w", 9))
        assert not channel.is_closed  # type: ignore[attr-defined]
        await it.drop(ref("w", 1))
        assert channel.is_closed  # type: ignore[attr-defined]
        assert await it.channel(ref("w", 1)) is not channel

    asyncio.run(body())


def test_close_closes_all() -> None:
    async def body() -> None:
        it = dialer()
        channels = [await it.channel(ref(name, 1)) for name in "abc"]
        await it.close()
        assert all(channel.is_closed for channel in channels)  # type: ignore[attr-defined]

    asyncio.run(body())
