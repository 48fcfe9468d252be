"""What HTTP clients may not send, and what it costs: a status and a field, nothing else."""

import asyncio
import json

import pytest

from common.core.errors import FieldViolation, InvalidRequest
from services.gateway import timed_protocol
from services.gateway.schema.chat import ChatBody
from services.gateway.schema.completion import CompletionBody
from services.gateway.schema.text import DetokenizeBody, TokenizeBody
from tests.gateway.house import HELLO, gateway, say
from tests.gateway.wire import exchange, parse

PATH = "/v1/completions"

BODIES = {
    b"": "body",
    b"{": "body",
    b"[]": "body",
    b'{"prompt": "x"} trailing': "body",
    b'{"prompt": "\xff"}': "body",
    b'{"prompt": ""}': "prompt",
    b'{"prompt": []}': "prompt",
    b'{"prompt": [[]]}': "prompt",
    b'{"prompt": [1, "x"]}': "prompt",
    b'{"prompt": [true]}': "prompt",
    b'{"prompt": [-1]}': "prompt",
    b'{"prompt": [4294967296]}': "prompt",
    b'{"prompt": {"text": "x"}}': "prompt",
    b'{"prompt": "x", "max_tokens": 0}': "max_tokens",
    b'{"prompt": "x", "max_tokens": -1}': "max_tokens",
    b'{"prompt": "x", "max_tokens": 2147483648}': "max_tokens",
    b'{"prompt": "x", "max_tokens": 1.5}': "max_tokens",
    b'{"prompt": "x", "max_tokens": "12"}': "max_tokens",
    b'{"prompt": "x", "max_tokens": true}': "max_tokens",
    b'{"prompt": "x", "temperature": NaN}': "temperature",
    b'{"prompt": "x", "temperature": 1e999}': "temperature",
    b'{"prompt": "x", "n": 0}': "n",
    b'{"prompt": "x", "n": 1000000000}': "n",
    b'{"prompt": "x", "best_of": 2}': "best_of",
    b'{"prompt": "x", "logprobs": 21}': "logprobs",
    b'{"prompt": "x", "seed": 9223372036854775808}': "seed",
    b'{"prompt": "x", "logit_bias": {"-1": 1}}': "logit_bias",
    b'{"prompt": "x", "logit_bias": {"a": 1}}': "logit_bias",
    b'{"prompt": "x", "logit_bias": {"5": 1, "05": 2}}': "logit_bias",
    b'{"prompt": "x", "priority": "urgent"}': "priority",
    b'{"prompt": "x", "stop": [1]}': "stop[0]",
    b'{"prompt": "x", "suffix": "y"}': "suffix",
    b'{"prompt": "\\ud800"}': "body",
    b'{"prompt": "x", "vibe": ' + b"[" * 1000 + b"]" * 1000 + b"}": "body",
    b'{"prompt": "x", "stop": [' + b",".join([b'"s"'] * 1025) + b"]}": "stop",
    b'{"prompt": "x", "stop": [' + b",".join([b"1"] * 1025) + b"]}": "stop",
    b'{"prompt": "x", "bad_words": [' + b",".join([b"1"] * 1025) + b"]}": "bad_words",
    b'{"prompt": "x", "allowed_token_ids": [' + b",".join([b'"x"'] * 9999) + b"]}": "allowed_token_ids[0]",
    json.dumps({"prompt": "x", "logit_bias": {str(token): 1 for token in range(1025)}}).encode(): "logit_bias",
    json.dumps({"prompt": "x", "logit_bias": {"9" * 5000: 1}}).encode(): "logit_bias",
    b'{"prompt": "x", "logit_bias": {"1": 1e999}}': "logit_bias.1",
}


async def test_every_bad_body_is_a_400_that_names_its_field_and_reaches_no_router():
    async with gateway(HELLO) as house:
        for body, param in BODIES.items():
            request = b"POST %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
            answer = await exchange(house.address, request % (PATH.encode(), len(body), body))
            assert answer.status == 400, (body, answer.body)
            assert answer.error["param"] == param, (body, answer.error)
            assert answer.error["type"] == "invalid_request_error"
        assert not house.router.asked


async def test_all_violations_come_at_once():
    async with gateway(HELLO) as house:
        answer = await house.post(PATH, {"prompt": "", "max_tokens": True, "n": 0, "logprobs": -1})
    assert {each["param"] for each in answer.error["violations"]} == {"prompt", "max_tokens", "n", "logprobs"}


async def test_the_routers_fields_are_told_under_the_names_of_http():
    violations = (FieldViolation(field="sampling.temperature", description="9 is not between 0 and 2"),)
    refused = InvalidRequest(message="invalid: sampling.temperature", violations=violations)
    async with gateway((refused,)) as house:
        answer = await house.post(PATH, {"prompt": "x", "temperature": 9})
    assert answer.status == 400
    assert answer.error["param"] == "temperature"
    assert answer.error["message"] == "temperature: 9 is not between 0 and 2"


@pytest.mark.parametrize("told", [True, False])
async def test_a_body_over_the_limit_is_413(told):
    async with gateway(HELLO, max_body_bytes=1024) as house:
        if told:
            answer = await house.post(PATH, {"prompt": "x" * 2000})
        else:
            chunks = b"6\r\nxxxxxx\r\n" * 300
            head = b"POST %b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" % PATH.encode()
            answer = await exchange(house.address, head + chunks)
    assert answer.status == 413
    assert answer.error["code"] == "message_too_large"


async def test_unknown_fields_are_named_in_a_header_or_refused_where_the_server_is_strict():
    body = {"prompt": "hi", "vibe": 1, "mood": {"x": 2}, "stream_options": {"pace": 3}}
    async with gateway(HELLO) as house:
        answer = await house.post(PATH, body)
    assert (answer.status, answer.headers["baton-ignored-fields"]) == (200, "mood, stream_options.pace, vibe")
    async with gateway(HELLO, strict=True) as house:
        answer = await house.post(PATH, body)
    assert answer.status == 400
    assert {each["param"] for each in answer.error["violations"]} == {"mood", "stream_options.pace", "vibe"}
    async with gateway(HELLO) as house:
        answer = await house.post("/tokenize", {"prompt": "hi", "vibe": 1})
    assert answer.headers["baton-ignored-fields"] == "vibe"


async def test_unknown_paths_and_methods_have_the_shape_of_all_errors():
    async with gateway(HELLO) as house:
        assert (await house.get("/v1/nothing")).status == 404
        answer = await house.get(PATH)
        assert (answer.status, answer.headers["allow"]) == (405, "POST, OPTIONS")
        answer = await house.post("/v1/embeddings", {"input": "x"})
        assert (answer.status, answer.error["code"]) == (501, "unsupported")


async def test_a_head_that_does_not_end_is_cut_off():
    async with gateway(HELLO, head_s=0.2) as house:
        answer = await exchange(house.address, b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nx-slow: 1")
        assert (answer.status, answer.error["type"]) == (408, "timeout_error")
        answer = await exchange(
            house.address, b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{" % PATH.encode()
        )
        assert answer.status == 408, "a body that does not come"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),  # no host
        (b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + b"x: " + b"y" * 40_000 + b"\r\n\r\n", 431),
        (b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", 400),
    ],
)
async def test_what_is_no_http_is_told_so(head, status):
    async with gateway(HELLO) as house:
        answer = await exchange(house.address, head)
    assert answer.status == status
    assert answer.error["code"] == ("message_too_large" if status == 431 else "malformed_message")


@pytest.mark.parametrize("headers", [["x: 1"] * 200, ["x: " + "y" * 16_350]])
async def test_heads_over_the_limit_are_431(headers):
    async with gateway(HELLO) as house:
        answer = await house.post(PATH, {"prompt": "x"}, headers=headers)
    assert answer.status == 431
    assert answer.error["code"] == "message_too_large"


async def test_compressed_bodies_are_not_unpacked():
    async with gateway(HELLO) as house:
        answer = await house.post(PATH, {"prompt": "x"}, headers=["content-encoding: gzip"])
        plain = await house.post(PATH, {"prompt": "x"}, headers=["content-encoding: Identity"])
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "identity")
    assert plain.status == 200


async def test_while_bad_input_comes_others_are_served():
    async with gateway(HELLO, head_s=3.0) as house:
        slow = [asyncio.create_task(exchange(house.address, b"GET /hea")) for _ in range(50)]
        async with asyncio.timeout(2.5):  # before any of them is given up
            assert (await house.post(PATH, {"prompt": "hi"})).status == 200
        answers = await asyncio.gather(*slow)
    assert {answer.status for answer in answers} == {408}


async def test_a_million_violations_are_counted_and_not_told_one_by_one():
    messages = [{}] * 5000
    async with gateway(HELLO) as house:
        answer = await house.post("/v1/chat/completions", {"messages": messages})
        assert not house.router.asked
    assert answer.status == 400
    assert len(answer.body) < 2000


@pytest.mark.parametrize("count", [129, 1000])
async def test_too_many_tools_are_refused_before_the_router(count):
    tool = {"type": "function", "function": {"name": "add"}}
    body = {"messages": [{"role": "user", "content": "x"}], "tools": [tool] * count}
    async with gateway(HELLO, habits={"tool_format": "hermes"}) as house:
        answer = await house.post("/v1/chat/completions", body)
        assert not house.router.asked
    assert (answer.status, answer.error["param"]) == (400, "tools")


async def test_the_routers_word_on_tools_names_the_field_of_http():
    violations = (FieldViolation(field="chat.tools[0].function.name", description="1 to 64 letters"),)
    refused = InvalidRequest(message="invalid: chat.tools[0].function.name", violations=violations)
    async with gateway((refused,)) as house:
        answer = await house.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]})
    assert (answer.status, answer.error["param"]) == (400, "tools[0].function.name")


async def test_an_empty_stop_string_is_the_routers_to_refuse():
    async with gateway(HELLO) as house:
        await house.post(PATH, {"prompt": "x", "stop": [""]})
        assert list(house.router.asked[0].sampling.stop) == [""]


@pytest.mark.parametrize("name", [" ", "x" * 255 + " y", "\u00e9"])
async def test_a_name_that_no_header_can_hold_does_not_cost_the_answer(name):
    async with gateway(HELLO) as house:
        answer = await house.post(PATH, {"prompt": "hi", name: 1})
    assert answer.status == 200


async def test_a_long_request_id_is_cut_where_a_header_may_end():
    async with gateway(HELLO) as house:
        answer = await house.post(PATH, {"prompt": "hi"}, headers=[f"x-request-id: {'x' * 255} y"])
    assert (answer.status, answer.headers["x-request-id"]) == (200, "x" * 255)


@pytest.mark.parametrize("host", ["[", "a/v1/models?", "x:y:z", "/", "[::1", "a@b#c", ""])
async def test_a_host_header_decides_nothing(host):
    async with gateway(HELLO) as house:
        for path, status in (("/nothing", 404), ("/v1/models", 200), ("/v1/completions", 405)):
            request = f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
            answer = await exchange(house.address, request.encode())
            assert answer.status == status, (path, answer.body)
            assert status == 200 or path in answer.error["message"]


CHUNKED = b"POST %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n" % PATH.encode()


async def test_two_lengths_of_one_body_are_refused():
    async with gateway(HELLO) as house:
        answer = await exchange(house.address, CHUNKED + b"content-length: 5\r\n\r\n0\r\n\r\n")
        assert not house.router.asked
    assert (answer.status, answer.headers["connection"]) == (400, "close")


async def test_a_body_in_small_chunks_is_served_and_one_in_a_myriad_of_them_is_not():
    body = b'{"prompt": "hi"}'
    few = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    async with gateway(HELLO) as house:
        assert (await exchange(house.address, CHUNKED + b"\r\n" + few)).status == 200
        answer = await exchange(house.address, CHUNKED + b"\r\n" + b"6\r\nxxxxxx\r\n" * 2000)
    assert answer.status == 413


async def test_old_clients_and_those_that_wait_for_a_continue_are_served():
    body = b'{"prompt": "hi"}'
    head = b"POST %b HTTP/1.%d\r\nhost: x\r\nconnection: close\r\ncontent-length: 16\r\n%b\r\n"
    async with gateway(HELLO) as house:
        old = await exchange(house.address, head % (PATH.encode(), 0, b"") + body)
        host, _, port = house.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head % (PATH.encode(), 1, b"expect: 100-continue\r\n"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(body)
        waited = parse(await reader.read(-1))
        writer.close()
    assert (old.status, waited.status) == (200, 200)


async def test_a_client_that_reads_nothing_is_cut_off(monkeypatch):
    monkeypatch.setattr(timed_protocol, "STALL_S", 0.1)
    flood = [say("x" * 60_000, first=index) for index in range(400)]
    async with gateway(flood) as house:
        host, _, port = house.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1)
        body = b'{"prompt": "hi", "stream": true}'
        writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (PATH.encode(), len(body), body))
        async with asyncio.timeout(5):
            while b'status="499"' not in (await house.get("/metrics")).body:
                await asyncio.sleep(0.05)
        assert not reader.at_eof()
        writer.close()


async def test_prompts_do_not_multiply_what_the_other_fields_hold():
    body = {"prompt": ["x"] * 128, "bad_words": ["y" * 1000] * 100}
    async with gateway(HELLO, max_body_bytes=1 << 20) as house:
        answer = await house.post(PATH, body)
        assert not house.router.asked
    assert (answer.status, answer.error["param"]) == (400, "prompt")


async def test_functions_of_old_are_refused_and_say_what_to_send():
    body = {"messages": [{"role": "user", "content": "x"}]}
    async with gateway(HELLO) as house:
        old = await house.post("/v1/chat/completions", {**body, "functions": [{"name": "add"}]})
        null = await house.post("/v1/chat/completions", {**body, "functions": None, "function_call": None})
    assert (old.status, null.status) == (400, 200)
    assert "tools" in old.error["message"]


async def test_null_means_absent_for_every_optional_field():
    chat = {**dict.fromkeys(ChatBody.model_fields), "messages": [{"role": "user", "content": "x"}]}
    async with gateway(HELLO) as house:
        assert (await house.post(PATH, {**dict.fromkeys(CompletionBody.model_fields), "prompt": "x"})).status == 200
        assert (await house.post("/v1/chat/completions", chat)).status == 200
        text = {**dict.fromkeys(TokenizeBody.model_fields), "prompt": "x"}
        assert (await house.post("/tokenize", text)).status == 200
        ids = {**dict.fromkeys(DetokenizeBody.model_fields), "tokens": [1]}
        assert (await house.post("/detokenize", ids)).status == 200
