"""What HTTP clients may not send, and what it costs: a status and a field, nothing else."""

import asyncio

import pytest

from common.core.errors import FieldViolation, InvalidRequest
from tests.gateway.house import HELLO, gateway
from tests.gateway.wire import exchange

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
    b'{"prompt": "x", "best_of": 2}': "body",
    b'{"prompt": "x", "logprobs": 21}': "logprobs",
    b'{"prompt": "x", "seed": 9223372036854775808}': "seed",
    b'{"prompt": "x", "logit_bias": {"-1": 1}}': "logit_bias",
    b'{"prompt": "x", "logit_bias": {"a": 1}}': "logit_bias",
    b'{"prompt": "x", "priority": "urgent"}': "priority",
    b'{"prompt": "x", "stop": [1]}': "stop[0]",
    b'{"prompt": "x", "suffix": "y"}': "body",
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
    assert answer.error["message"] == "invalid: temperature"


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
    body = {"prompt": "hi", "vibe": 1, "mood": {"x": 2}}
    async with gateway(HELLO) as house:
        answer = await house.post(PATH, body)
    assert (answer.status, answer.headers["baton-ignored-fields"]) == (200, "mood, vibe")
    async with gateway(HELLO, strict=True) as house:
        answer = await house.post(PATH, body)
    assert answer.status == 400
    assert {each["param"] for each in answer.error["violations"]} == {"mood", "vibe"}


async def test_unknown_paths_and_methods_have_the_shape_of_all_errors():
    async with gateway(HELLO) as house:
        assert (await house.get("/v1/nothing")).status == 404
        answer = await house.get(PATH)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        answer = await house.post("/v1/embeddings", {"input": "x"})
        assert (answer.status, answer.error["code"]) == (501, "unsupported")


async def test_a_head_that_does_not_end_is_cut_off():
    async with gateway(HELLO, head_s=0.2) as house:
        answer = await exchange(house.address, b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nx-slow: 1")
        assert answer.status == 408
        answer = await exchange(
            house.address, b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{" % PATH.encode()
        )
        assert answer.status == 504, "a body that does not come"


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
    assert answer.status == 400


async def test_while_bad_input_comes_others_are_served():
    async with gateway(HELLO) as house:
        slow = [asyncio.create_task(exchange(house.address, b"GET /hea")) for _ in range(50)]
        async with asyncio.timeout(0.4):
            assert (await house.post(PATH, {"prompt": "hi"})).status == 200
        answers = await asyncio.gather(*slow)
    assert {answer.status for answer in answers} == {408}
