"""A gateway that leaves: what runs is finished or told, what comes is refused, and all within the grace."""

import asyncio
import json

import pytest

from common.observe.farewell import Farewell
from services.gateway.leaving import Leaving
from tests.gateway.house import gateway, say


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
    assert await asyncio.wait_for(leaving, 2.0) == 1, "one answer is left"
    site.gate.set()
    await running


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
@pytest.mark.parametrize("num_prompts", [1, 2])
async def test_a_stream_that_is_cut_ends_with_an_event_that_says_so(path: str, num_prompts: int) -> None:
    """And its router's work ends: the call is cancelled. No [DONE] follows, which would mean that it is whole."""
    never, made = asyncio.Event(), []
    script = (say("hel", prompt=3), never)

    def wrap(site):
        made.append(Leaving(site))
        return made[0]

    body = {"prompt": ["hi"] * num_prompts, "stream": True}
    if path == "/v1/chat/completions":
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    async with gateway(script, wrap=wrap) as house:
        asking = asyncio.create_task(house.post(path, body))
        while not house.router.asked:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert await made[0].drain(Farewell(), notice_s=0.0, grace_s=0.0) == 1
        answer = await asyncio.wait_for(asking, 5.0)
        await asyncio.wait_for(house.router.cancelled.wait(), 5.0)
    assert answer.status == 200
    assert "[DONE]" not in answer.events
    *said, last = answer.chunks
    assert "hel" in json.dumps(said)
    assert last["error"]["code"] == "draining"
    assert "ask again" in last["error"]["message"]


async def test_an_answer_that_is_cut_before_it_began_is_refused_with_a_time_to_try_again() -> None:
    never, made = asyncio.Event(), []

    def wrap(site):
        made.append(Leaving(site))
        return made[0]

    async with gateway((say("hel", prompt=3), never), wrap=wrap) as house:
        asking = asyncio.create_task(house.post("/v1/completions", {"prompt": "hi"}))
        while not house.router.asked:
            await asyncio.sleep(0.01)
        assert await made[0].drain(Farewell(), notice_s=0.0, grace_s=0.0) == 1
        answer = await asyncio.wait_for(asking, 5.0)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.error["code"] == "draining"
