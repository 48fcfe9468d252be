"""Every spelling of what an answer must look like reaches the router as one constraint."""

import json

import pytest

from tests.gateway.house import HELLO, gateway

CHAT, PLAIN = "/v1/chat/completions", "/v1/completions"
HI = {"messages": [{"role": "user", "content": "hi"}]}
TEXT = {"prompt": "hi"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
ADD = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}
SUB = {"type": "function", "function": {"name": "sub", "parameters": SCHEMA}}

SPELLINGS = [
    ({"response_format": {"type": "json_object"}}, "json_object"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}, "json_schema"),
    ({"response_format": {"type": "json_object", "schema": SCHEMA}}, "json_schema"),
    ({"response_format": {"type": "json_schema", "schema": SCHEMA}}, "json_schema"),
    ({"guided_json": SCHEMA}, "json_schema"),
    ({"guided_json": json.dumps(SCHEMA)}, "json_schema"),
    ({"guided_regex": "a+"}, "regex"),
    ({"guided_choice": ["a", "b"]}, "choice"),
    ({"guided_grammar": 'start: "a"'}, "grammar"),
    ({"structured_outputs": {"json": SCHEMA}}, "json_schema"),
    ({"structured_outputs": {"regex": "a+"}}, "regex"),
    ({"structured_outputs": {"choice": ["a"]}}, "choice"),
    ({"structured_outputs": {"grammar": 'start: "a"'}}, "grammar"),
    ({"structured_outputs": {"json_object": True}}, "json_object"),
]


@pytest.mark.parametrize(("fields", "form"), SPELLINGS)
async def test_each_spelling_becomes_one_constraint(fields: dict[str, object], form: str) -> None:
    async with gateway(HELLO) as house:
        for path, body in ((CHAT, HI), (PLAIN, TEXT)):
            answer = await house.post(path, {**body, **fields})
            assert answer.status == 200, answer.body
            said = house.router.asked[-1].constraint
            assert said.WhichOneof("form") == form
            if form == "json_schema":
                assert json.loads(said.json_schema) == SCHEMA


async def test_text_asks_for_nothing() -> None:
    async with gateway(HELLO) as house:
        assert (await house.post(CHAT, {**HI, "response_format": {"type": "text"}})).status == 200
        assert house.router.asked[-1].constraint.WhichOneof("form") is None


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "text", "schema": {}}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}, "schema": {}}},
            "response_format.schema",
        ),
        ({"regex": "[ab]"}, "regex"),
        ({"ebnf": "root ::= 'a'"}, "ebnf"),
        ({"json_schema": "{}"}, "json_schema"),
        ({"grammar": "root ::= 'a'"}, "grammar"),
        ({"structural_tag": "{}"}, "structural_tag"),
        ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_regex"),
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "response_format"),
        ({"guided_regex": 5}, "guided_regex"),
        ({"structured_outputs": {"structural_tag": "<a>"}}, "structured_outputs"),
        ({"structured_outputs": {"regex": None}}, "structured_outputs"),
    ],
)
async def test_what_cannot_be_meant_is_refused(fields: dict[str, object], field: str) -> None:
    async with gateway(HELLO) as house:
        answer = await house.post(CHAT, {**HI, **fields})
        assert answer.status == 400
        assert answer.error["param"] == field
        assert not house.router.asked


async def test_a_huge_schema_is_refused_here() -> None:
    async with gateway(HELLO, max_body_bytes=4 << 20) as house:
        answer = await house.post(CHAT, {**HI, "guided_json": {"description": "x" * (1 << 20)}})
        assert (answer.status, answer.error["param"]) == (400, "guided_json")


HERMES = {"tool_format": "hermes"}


async def test_required_calls_become_a_grammar_of_the_models_own_format() -> None:
    async with gateway(HELLO, habits=HERMES) as house:
        body = {**HI, "tools": [ADD, SUB], "tool_choice": "required"}
        assert (await house.post(CHAT, body)).status == 200
        grammar = house.router.asked[-1].constraint.grammar
        assert "call: call0 | call1" in grammar
        assert '<tool_call>\\n{\\"name\\": \\"sub\\", \\"arguments\\": ' in grammar


async def test_a_named_tool_is_the_only_one() -> None:
    async with gateway(HELLO, habits=HERMES) as house:
        named = {"type": "function", "function": {"name": "sub"}}
        assert (await house.post(CHAT, {**HI, "tools": [ADD, SUB], "tool_choice": named})).status == 200
        grammar = house.router.asked[-1].constraint.grammar
        assert "add" not in grammar
        assert "start: call\n" in grammar


async def test_auto_leaves_the_model_free() -> None:
    async with gateway(HELLO, habits=HERMES) as house:
        assert (await house.post(CHAT, {**HI, "tools": [ADD], "tool_choice": "auto"})).status == 200
        assert house.router.asked[-1].constraint.WhichOneof("form") is None


async def test_a_format_that_cannot_be_enforced_is_told() -> None:
    async with gateway(HELLO, habits={"tool_format": "mistral"}) as house:
        answer = await house.post(CHAT, {**HI, "tools": [ADD], "tool_choice": "required"})
        assert answer.status == 501


async def test_a_model_that_thinks_first_may_do_so() -> None:
    async with gateway(HELLO, habits={**HERMES, "thinks": True, "begins_in_thought": True}) as house:
        await house.post(CHAT, {**HI, "guided_regex": "a"})
        assert house.router.asked[-1].constraint.after == "</think>"
        await house.post(CHAT, {**HI, "guided_regex": "a", "chat_template_kwargs": {"enable_thinking": False}})
        assert house.router.asked[-1].constraint.after == ""
        await house.post(CHAT, {**HI, "tools": [ADD], "tool_choice": "required"})
        assert "thought" in house.router.asked[-1].constraint.grammar


async def test_a_thought_that_ends_in_a_special_token_cannot_be_followed_by_a_form() -> None:
    """No grammar spells one: the thought would never end."""
    habits = {"thinks": True, "begins_in_thought": True, "thought_close": "[/THINK]", "hides_thoughts": True}
    async with gateway(HELLO, habits=habits) as house:
        answer = await house.post(CHAT, {**HI, "guided_regex": "a"})
        assert (answer.status, answer.error["param"]) == (400, "guided_regex")
        assert (await house.post(CHAT, {**HI, "guided_regex": "a", "reasoning_effort": "none"})).status == 200
