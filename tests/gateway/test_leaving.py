"""A gateway that leaves: what runs is finished, what comes is refused, and both within the grace."""

import asyncio

from common.observe.farewell import Farewell
from services.gateway.leaving import Leaving


class Site:
    """Answers when the gate opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.num_asked = 0

    async def __call__(self, scope, receive, send):
        self.num_asked += 1
        await self.gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def answer(app: Leaving) -> tuple[int, dict[bytes, bytes]]:
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        raise AssertionError("nobody reads")

    await app({"type": "http"}, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


async def test_running_answers_end_and_new_requests_are_sent_elsewhere():
    site = Site()
    app, farewell = Leaving(site), Farewell()
    running = asyncio.create_task(answer(app))
    await asyncio.sleep(0)
    farewell.hear()
    leaving = asyncio.create_task(app.drain(farewell, notice_s=0.0, grace_s=30.0))
    await asyncio.sleep(0)
    status, headers = await asyncio.wait_for(answer(app), 2.0)
    assert (status, headers[b"retry-after"], headers[b"connection"]) == (503, b"1", b"close")
    site.gate.set()
    assert (await running)[0] == 200
    assert await leaving == 0


async def test_requests_are_served_while_balancers_have_not_heard():
    site = Site()
    site.gate.set()
    app, farewell = Leaving(site), Farewell()
    farewell.hear()
    leaving = asyncio.create_task(app.drain(farewell, notice_s=0.2, grace_s=30.0))
    await asyncio.sleep(0)
    assert (await answer(app))[0] == 200
    assert await leaving == 0
    assert (await answer(app))[0] == 503


async def test_a_second_signal_ends_the_wait():
    site = Site()
    app, farewell = Leaving(site), Farewell()
    running = asyncio.create_task(answer(app))
    await asyncio.sleep(0)
    farewell.hear()
    leaving = asyncio.create_task(app.drain(farewell, notice_s=0.0, grace_s=30.0))
    await asyncio.sleep(0)
    farewell.hear()
    assert await asyncio.wait_for(leaving, 2.0) == 1, "one answer is left, for the listener's end to cut"
    site.gate.set()
    await running
