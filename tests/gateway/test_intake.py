"""What a body may hold is what can be read while others wait."""

import asyncio
import json

import pytest

from common.core.clock import SystemClock
from common.core.errors import InvalidRequest
from services.gateway.intake import MAX_COST, Intake, cost_of
from services.gateway.schema.chat import ChatBody
from services.gateway.schema.completion import CompletionBody
from tests.gateway.house import HELLO, gateway

CLOCK = SystemClock()

DENSE = {
    "token ids": b'{"prompt":[' + b"1," * 1_000_000 + b"1]}",
    "lists": b'{"prompt":"x","vibe":[' + b"[]," * 600_000 + b"[]]}",
    "names": b'{"prompt":"x"' + b"".join(b',"k%d":1' % number for number in range(150_000)) + b"}",
    "short texts": b'{"prompt":["' + b'","'.join([b"a"] * 500_000) + b'"]}',
    "tools": b'{"prompt":"x","tools":[{"parameters":{"a":[' + b"{}," * 600_000 + b"{}]}}]}",
    "escaped quotes": b'\\"[' * 600_000,
    "quotes and brackets": b'"[' * 1_000_000,
}


def test_marks_inside_of_texts_cost_nothing():
    text = json.dumps({"prompt": '{"a": [1, 2], "b\\\\": "c"}, ' * 60_000}).encode()
    assert cost_of(text) < 100
    assert cost_of(b'{"prompt": "' + b"[" * 400_000) < 100, "a text without its end"


@pytest.mark.parametrize("name", DENSE)
async def test_a_body_of_too_many_parts_is_refused_before_it_is_parsed(name):
    with pytest.raises(InvalidRequest) as told:
        await Intake().read(CompletionBody, DENSE[name])
    assert told.value.violations[0].field == "body"


async def test_long_texts_many_ids_and_long_talks_are_none_of_these():
    intake = Intake()
    ids = {"prompt": list(range(200_000))}
    assert len((await intake.read(CompletionBody, json.dumps(ids).encode())).prompt[0]) == 200_000
    code = {"prompt": 'f(x, [1, {"a": 2}]) # "' * 60_000}
    assert (await intake.read(CompletionBody, json.dumps(code).encode())).prompt == [code["prompt"]]
    talk = {"messages": [{"role": "user", "content": "a, b: [c]"}] * 5_000}
    assert len((await intake.read(ChatBody, json.dumps(talk).encode())).messages) == 5_000


async def test_the_loop_turns_while_bodies_at_the_limit_are_read():
    """Twenty clients at once, each with the most that is taken. Method: the longest time between two turns of the loop,
    against the time that one such body takes alone: bodies are read one at a time."""
    number = MAX_COST - 1000
    raw = b'{"prompt":[' + b",".join([b"7"] * number) + b"]}"
    began = CLOCK.monotonic()
    CompletionBody.read(raw)
    alone_s = CLOCK.monotonic() - began
    is_over, slowest_s = False, 0.0

    async def watch() -> None:
        nonlocal slowest_s
        while not is_over:
            before = CLOCK.monotonic()
            await asyncio.sleep(0)
            slowest_s = max(slowest_s, CLOCK.monotonic() - before)

    async with gateway(HELLO, max_body_bytes=2 << 20) as house:
        watching = asyncio.create_task(watch())
        answers = await asyncio.gather(*(house.post("/v1/completions", raw) for _ in range(20)))
        is_over = True
        await watching
    assert all(answer.status in (200, 413) for answer in answers), answers[0].body
    print(f"slowest turn {slowest_s * 1e3:.0f} ms, one body {alone_s * 1e3:.0f} ms")
    assert slowest_s < 6 * alone_s + 0.05  # the scripted router parses in this loop as well
