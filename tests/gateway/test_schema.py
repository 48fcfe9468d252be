"""Every field of every body with values of other types: a 400 that names the field, or it is taken. Never a 500."""

import json
from typing import Any

import pytest

from services.gateway.schema.body import Body
from services.gateway.schema.chat import ChatBody
from services.gateway.schema.completion import CompletionBody
from services.gateway.schema.text import DetokenizeBody, TokenizeBody
from tests.gateway.house import HELLO, gateway

WRONG: list[Any] = [
    True,
    0,
    5,
    -7,
    1.5,
    2**31,
    2**64,
    10**400,
    "",
    "x",
    "\u0000",
    "9" * 400,
    [],
    [None],
    [True],
    [-1],
    ["x"],
    [1, "x"],
    [[]],
    [{}],
    {},
    {"x": 1},
    {"type": 5},
    {"type": "function"},
    {"type": "function", "function": 5},
    {"type": "json_schema", "json_schema": {"schema": 5}},
    {"json": 5},
    {"-1": 1},
]
TURN = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"id": "a", "type": "function", "function": {"name": "add", "arguments": "{}"}}
BODIES: list[tuple[str, type[Body], dict[str, Any]]] = [
    ("/v1/completions", CompletionBody, {"prompt": "hi"}),
    ("/v1/chat/completions", ChatBody, {"messages": [TURN]}),
    ("/tokenize", TokenizeBody, {"prompt": "hi"}),
    ("/detokenize", DetokenizeBody, {"tokens": [1]}),
]
NESTED: list[tuple[tuple[str | int, ...], dict[str, Any]]] = [
    (("messages", 0, "role"), {"messages": [TURN]}),
    (("messages", 0, "content"), {"messages": [TURN]}),
    (("messages", 0, "name"), {"messages": [TURN]}),
    (("messages", 0, "tool_call_id"), {"messages": [TURN]}),
    (("messages", 0, "tool_calls"), {"messages": [{"role": "assistant", "content": "x"}]}),
    (("messages", 0, "tool_calls", 0, "function"), {"messages": [{"role": "assistant", "tool_calls": [CALL]}]}),
    (("messages", 0), {"messages": [TURN]}),
    (("tools", 0, "function", "name"), {"messages": [TURN], "tools": [TOOL]}),
    (("tools", 0, "function", "parameters"), {"messages": [TURN], "tools": [TOOL]}),
    (("tools", 0), {"messages": [TURN], "tools": [TOOL]}),
    (("stream_options", "include_usage"), {"messages": [TURN], "stream_options": {}}),
    (("response_format", "type"), {"messages": [TURN], "response_format": {}}),
    (("structured_outputs", "choice"), {"messages": [TURN], "structured_outputs": {"regex": "a"}}),
    (("chat_template_kwargs", "enable_thinking"), {"messages": [TURN], "chat_template_kwargs": {}}),
]


@pytest.mark.parametrize(("path", "kind", "good"), BODIES, ids=lambda value: value if isinstance(value, str) else "")
async def test_a_wrong_value_is_told_by_its_fields_name(path: str, kind: type[Body], good: dict[str, Any]) -> None:
    async with gateway(HELLO, habits={"tool_format": "hermes"}) as house:
        for field in (info.alias or name for name, info in kind.model_fields.items()):
            for value in WRONG:
                answer = await house.post(path, {**good, field: value})
                assert answer.status in (200, 400), (field, value, answer.body)
                if answer.status == 400:
                    params = [each["param"] for each in answer.error["violations"]]
                    assert all(is_of(field, param) for param in params), (field, value, answer.error)
                    assert all(each["message"] for each in answer.error["violations"])


@pytest.mark.parametrize(("place", "good"), NESTED, ids=lambda value: ".".join(map(str, value)))
async def test_a_wrong_value_deep_inside_is_told_by_its_path(
    place: tuple[str | int, ...], good: dict[str, Any]
) -> None:
    async with gateway(HELLO, habits={"tool_format": "hermes"}) as house:
        for value in WRONG:
            body = json.loads(json.dumps(good))
            inner: Any = body
            for step in place[:-1]:
                inner = inner[step]
            inner[place[-1]] = value
            answer = await house.post("/v1/chat/completions", body)
            assert answer.status in (200, 400), (value, answer.body)
            if answer.status == 400:
                assert answer.error["param"].startswith(str(place[0])), (value, answer.error)


def is_of(field: str, param: str) -> bool:
    """`field`, or a part of it; or what is needed together with it."""
    together = {"messages": "prompt", "n": "best_of", "best_of": "n", "tools": "tool_choice"}
    return param.split(".", maxsplit=1)[0].split("[", maxsplit=1)[0] in (field, together.get(field))


@pytest.mark.parametrize(
    "value", [5, True, "always", [], {"type": "function"}, {"type": "allowed_tools"}, {"function": {"name": "x"}}]
)
async def test_a_strange_tool_choice_is_told_in_one_sentence(value: object) -> None:
    async with gateway(HELLO, habits={"tool_format": "hermes"}) as house:
        body = {"messages": [TURN], "tools": [TOOL], "tool_choice": value}
        answer = await house.post("/v1/chat/completions", body)
    (told,) = answer.error["violations"]
    assert told["param"] == "tool_choice"
    assert told["message"].startswith("must be one of none, auto, required, or {")


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": None, "reasoning_content": "hm"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": None, "refusal": None, "audio": None, "function_call": None},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "content": ""},
    ],
)
async def test_an_answer_can_be_sent_back_as_it_was(turn: dict[str, Any]) -> None:
    async with gateway(HELLO, habits={"tool_format": "hermes"}) as house:
        answer = await house.post("/v1/chat/completions", {"messages": [TURN, turn, TURN]})
        assert answer.status == 200, answer.body
        assert house.router.asked[0].chat.messages[1].content == ""


@pytest.mark.parametrize(
    "more",
    [
        {"user": "me", "store": False, "metadata": {"a": "b"}, "service_tier": "auto", "parallel_tool_calls": True},
        {"n": None, "stop": None, "seed": None, "logit_bias": None, "response_format": None, "tools": None},
        {"top_k": -1, "min_p": 0, "top_p": 0, "stop": [], "logit_bias": {}, "presence_penalty": 0},
        {"safety_identifier": "x", "prompt_cache_key": "y", "verbosity": "low", "modalities": ["text"]},
        {"max_completion_tokens": 5, "max_tokens": 7, "reasoning_effort": "low", "stream_options": None},
    ],
)
async def test_what_known_clients_send_by_habit_is_taken(more: dict[str, Any]) -> None:
    async with gateway(HELLO) as house:
        answer = await house.post("/v1/chat/completions", {"model": "tiny", "messages": [TURN], **more})
    assert answer.status == 200, answer.body


async def test_log_probabilities_may_be_switched_off_with_false() -> None:
    async with gateway(HELLO) as house:
        answer = await house.post("/v1/completions", {"prompt": "x", "logprobs": False})
        assert answer.json["choices"][0]["logprobs"] is None
        assert (await house.post("/v1/completions", {"prompt": "x", "logprobs": True})).status == 400
