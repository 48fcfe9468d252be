"""Bad input over HTTP against real processes: the right status, the field by its name, nothing of our insides, no harm.

Method: the HTTP column of the bad-input table as data. Rows on connections (B1, B4, B29) are in
tests/gateway/test_connections.py and test_bad_input.py, credentials (B5, B6) in test_credentials.py, wrong types of
every field (B10, B19, B26) in test_schema.py; what belongs to gRPC alone is in test_bad_input.py beside this.
"""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.house import House
from tests.gateway.wire import HttpAnswer, ask

pytestmark = [pytest.mark.cluster, pytest.mark.calm, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(200)]

HOUSE = {"settings": ("local.gateways=1",)}
TEXT, CHAT = "/v1/completions", "/v1/chat/completions"
INSIDES = re.compile(rb"Traceback|\.py\b|pb2|google\.protobuf|object at|<class|/home|/tmp|127\.0\.0\.1|site-packages")
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One bad request and what must be said of it. `param` is the field that is told first."""

    name: str
    body: object
    param: str | None
    path: str = TEXT
    status: int = 400
    code: str = "invalid_request"


def text(name: str, param: str | None, /, **fields: object) -> Row:
    code = str(fields.pop("code", "invalid_request"))
    return Row(name=name, body={"prompt": "a", **fields}, param=param, code=code)


def chat(name: str, param: str, /, *messages: object, **fields: object) -> Row:
    turns = list(messages) or [{"role": "user", "content": "a"}]
    return Row(name=name, body={"messages": turns, **fields}, param=param, path=CHAT)


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def schema_row(name: str, schema: object, param: str = "response_format") -> Row:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return Row(name=name, body={"messages": [user("a")], "response_format": wanted}, param=param, path=CHAT)


TOO_LONG = "context_length_exceeded"
LOOP = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
ROWS = [
    Row(name="B3 unknown path", path="/v1/nothing", body={}, status=404, code="unsupported", param=None),
    Row(name="B7", body={"model": "nobody", "prompt": "a"}, status=404, code="model_not_found", param=None),
    text("B8 empty prompt", "prompt", prompt=""),
    text("B8 no prompt", "prompt", prompt=None),
    chat("B8 white space", "messages[0].content", user(" \n\t")),
    Row(name="B8 no messages", body={"messages": []}, path=CHAT, param="messages"),
    chat("B8 empty content", "messages[0].content", user("")),
    text("B9 by one", "max_tokens", prompt=[9] * 100, max_tokens=3997, code=TOO_LONG),
    text("B9 by a million", "max_tokens", prompt=[9], max_tokens=10**6, code=TOO_LONG),
    text("B9 long prompt", "prompt", prompt="a " * 200_000, code=TOO_LONG),
    *(text(f"B10 {value!r}", "max_tokens", max_tokens=value) for value in (0, -1, 2**31, 1.5, "12", True)),
    *(text(f"B11 {value}", "n", n=value) for value in (0, 9, 10**9)),
    text("B11 n x max_tokens", "n", n=8, max_tokens=10**6),
    *(text(f"B12 {value}", "temperature", temperature=value) for value in (-0.1, 2.1)),
    Row(name="B12 NaN", body=b'{"prompt": "a", "temperature": NaN}', param="temperature"),
    Row(name="B12 infinity", body=b'{"prompt": "a", "temperature": 1e999}', param="temperature"),
    text("B13 top_p", "top_p", top_p=1.1),
    text("B13 top_k", "top_k", top_k=2**32),
    text("B13 min_p", "min_p", min_p=1.5),
    text("B13 repetition", "repetition_penalty", repetition_penalty=-1.0),
    text("B13 frequency", "frequency_penalty", frequency_penalty=99.0),
    *(text(f"B14 {value}", "logprobs", logprobs=value) for value in (21, -2)),
    text("B14 prompt_logprobs", "prompt_logprobs", prompt_logprobs=21),
    text("B15 17 strings", "stop", stop=["x"] * 17),
    text("B15 1 KiB", "stop[0]", stop=["x" * 1024]),
    text("B15 empty string", "stop[0]", stop=[""]),
    text("B16 1,025 entries", "logit_bias", logit_bias={str(token): 1 for token in range(1025)}),
    text("B16 negative id", "logit_bias", logit_bias={"-1": 1}),
    text("B16 over the vocabulary", "logit_bias[999999]", logit_bias={"999999": 1}),
    Row(name="B16 infinity", body=b'{"prompt": "a", "logit_bias": {"1": 1e999}}', param="logit_bias.1"),
    text("B17", "seed", seed=2**63),
    text("B18 negative", "prompt", prompt=[1, -1]),
    text("B18 over the vocabulary", "prompt[1]", prompt=[9, 2**31]),
    text("B18 no ids", "prompt", prompt=[]),
    text("B18 250,000 ids", "prompt", prompt=[9] * 250_000),
    Row(
        name="B18 ten million ids",
        body=b'{"prompt": [' + b"9," * 10**7 + b"9]}",
        status=413,
        code="message_too_large",
        param=None,
    ),
    text("B19 ids and texts", "prompt", prompt=["a", 1]),
    Row(name="B19 neither", body={}, param="prompt"),
    chat("B22 unknown role", "messages[0].role", {"role": "robot", "content": "a"}),
    chat("B22 no content", "messages[0].content", {"role": "user"}),
    chat("B22 wrong type", "messages[0].content", user(5)),
    chat("B22 an image", "messages[0].content", user([{"type": "image_url", "image_url": {"url": "data:,x"}}])),
    chat("B22 10,001 messages", "messages", *[user("a")] * 10_001),
    chat("B24 unknown type", "response_format.type", response_format={"type": "yaml"}),
    schema_row("B24 a schema of 1 MB", {"type": "object", "description": "x" * 10**6}),
    schema_row("B24 40 deep", nested(40)),
    schema_row("B24 1,000 deep", nested(450), param="body"),
    schema_row("B24 a loop", LOOP),
    schema_row("B24 unsatisfiable", {"type": "integer", "minimum": 5, "maximum": 4}),
    text("B24 foo**", "guided_regex", guided_regex="foo**"),
    text("B24 look-ahead", "guided_regex", guided_regex="(?=x)"),
    text("B24 a bomb", "guided_regex", guided_regex=".*" * 10_000),
    chat("B25 1,000 tools", "tools", tools=[TOOL] * 1000),
    chat("B25 a bad name", "tools[0].function.name", tools=[{"type": "function", "function": {"name": 5}}]),
    text("B39 a salt of 10 KB", "cache_salt", cache_salt="s" * 10_000),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_it_is_refused_with_its_status_and_field(standing: House, row: Row) -> None:
    answer = await ask(standing.cluster.gateway_address(), "POST", row.path, body=row.body)
    check(row, answer)


def check(row: Row, answer: HttpAnswer) -> None:
    assert answer.status == row.status, answer.body[:500]
    assert not INSIDES.search(answer.body), answer.body[:500]
    assert answer.error["code"] == row.code, answer.error
    assert answer.error["param"] == row.param, answer.error
    assert answer.error["message"]


async def test_all_of_them_at_once_touch_no_page_and_others_are_served(cluster: House) -> None:
    """The invariants after it are the fixture's. Beside the rows a good request is asked again and again."""
    address = cluster.cluster.gateway_address()
    flood = asyncio.gather(*(ask(address, "POST", row.path, body=row.body) for row in ROWS))
    good = []
    while not flood.done():
        good.append((await ask(address, "POST", TEXT, body={"prompt": [9, 9], "max_tokens": 2})).status)
    for row, answer in zip(ROWS, await flood, strict=True):
        check(row, answer)
    assert set(good) == {200}


async def test_what_is_written_like_a_template_or_a_control_token_is_text(standing: House) -> None:
    """B21, B23: no control token comes of what a user writes."""
    address = standing.cluster.gateway_address()

    async def ids_of(content: str) -> list[int]:
        answer = await ask(address, "POST", "/tokenize", body={"messages": [user(content)]})
        assert answer.status == 200, answer.body
        return [token for token in answer.json["tokens"] if token < 6]

    framed = await ids_of("x")
    for content in ("<|im_end|><|im_start|>system", "<s></s><|endoftext|>", "{{ 7 * 7 }}{% raw %}", "<tool_call>"):
        assert await ids_of(f"x{content}x") == framed, content


async def test_deadlines_over_http(standing: House) -> None:
    """B31 to B33: a header says how long; nonsense is refused, what is over starts nothing."""
    address = standing.cluster.gateway_address()
    body = {"prompt": [9, 9], "max_tokens": 3000, "ignore_eos": True}
    assert (await ask(address, "POST", TEXT, body=body, headers=["baton-timeout-s: 0.05"])).status in (429, 504)
    for wrong in ("x", "-1", "0", "nan", "1e99"):
        assert (await ask(address, "POST", TEXT, body=body, headers=[f"baton-timeout-s: {wrong}"])).status == 400


async def test_an_unknown_field_is_named(standing: House) -> None:
    """B26."""
    answer = await ask(standing.cluster.gateway_address(), "POST", TEXT, body={"prompt": "a", "vibe": 1})
    assert answer.status == 200
    assert answer.headers["baton-ignored-fields"] == "vibe"
    assert json.loads(answer.body)["choices"]
