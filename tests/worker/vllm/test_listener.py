"""Goal: who listens within the worker neither hides the end of its stream nor holds up the worker because of it."""

import asyncio

import pytest

from common.core.errors import InternalError
from common.core.ids import Epoch, RequestId, RouterId, RouterRef, WorkerId, WorkerRef
from common.core.worker import LoadReport, PageCounts
from common.worker.subscriptions import Subscriptions
from common.worker.vllm.listener import MAX_QUEUED, Inbox, Listener

ME = RouterRef(RouterId("vllm@decode-0"), Epoch(1))


def subscriptions() -> Subscriptions:
    idle = LoadReport(pages=PageCounts(total=0, free=0, promised=0, referenced=0, cached=0))
    worker = WorkerRef(WorkerId("decode-0"), Epoch(7), "127.0.0.1:1")
    return Subscriptions(worker, load=lambda: idle, on_router_lost=lambda _: None)


async def test_another_incarnation_under_its_name_ends_its_calls_and_not_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever may subscribe may name himself so. From then on the listener is refused at once, whenever it asks."""
    monkeypatch.setattr("common.worker.vllm.listener.AGAIN_S", 0.01)
    streams = subscriptions()
    asked = 0
    real_stream = streams.stream

    def stream(router: RouterRef, **options: bool) -> object:
        nonlocal asked
        asked += 1
        assert asked < 50, "asked without a pause"
        return real_stream(router, **options)

    listener = Listener(streams, ME)
    other = real_stream(RouterRef(ME.router, Epoch(2)))
    monkeypatch.setattr(streams, "stream", stream)
    with listener.open(RequestId("r")) as inbox:
        listening = asyncio.create_task(listener.run())
        await asyncio.sleep(0.01)
        await anext(other)
        assert await inbox.next(5.0) is None
        await asyncio.sleep(0.05)
        assert not listening.done()
        assert asked > 1
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await other.aclose()


async def test_a_call_that_fell_behind_is_told_so() -> None:
    inbox = Inbox()
    for _ in range(MAX_QUEUED + 1):
        inbox.put(None)
    with pytest.raises(InternalError, match="events behind"):
        await inbox.next(1.0)
