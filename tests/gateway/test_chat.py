"""POST /v1/chat/completions."""

import json

import pytest

from protos.baton.v1 import generation_pb2
from tests.gateway.house import HELLO, STOP, gateway, say, usage

PATH = "/v1/chat/completions"
HI = {"messages": [{"role": "user", "content": "hi"}]}


async def test_a_whole_answer_is_one_message_of_the_assistant():
    async with gateway(HELLO) as house:
        answer = await house.post(PATH, {**HI, "max_completion_tokens": 9, "max_tokens": 3})
        asked = house.router.asked[0]
    assert asked.sampling.max_tokens == 9, "the newer name rules"
    assert [(message.role, message.content) for message in asked.chat.messages] == [("user", "hi")]
    assert answer.json["object"] == "chat.completion"
    [choice] = answer.json["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == "hello"
    assert choice["finish_reason"] == "stop"


async def test_the_first_chunk_of_each_choice_says_whose_turn_it_is():
    script = (say("a", prompt=3), say("b", choice=1, finish=STOP), say("c", first=1, finish=STOP), usage())
    async with gateway(script) as house:
        answer = await house.post(PATH, {**HI, "stream": True, "n": 2})
    chunks = [chunk["choices"][0] for chunk in answer.chunks]
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in answer.chunks)
    for index in (0, 1):
        own = [chunk for chunk in chunks if chunk["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert [chunk["finish_reason"] for chunk in own if chunk["finish_reason"]] == ["stop"]
        assert own[-1]["finish_reason"] == "stop"
    assert "".join(chunk["delta"].get("content", "") for chunk in chunks if chunk["index"] == 0) == "ac"
    assert answer.events[-1] == "[DONE]"


async def test_text_parts_become_one_text_and_a_developer_is_the_system():
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}]
    async with gateway(HELLO) as house:
        await house.post(PATH, {"messages": messages})
        asked = house.router.asked[0].chat.messages
    assert [(message.role, message.content) for message in asked] == [("system", "be brief"), ("user", "one\ntwo")]


async def test_log_probabilities_come_as_objects_with_bytes():
    def score(spelling, logprob):
        return generation_pb2.TokenScore(spelling=spelling, logprob=logprob)

    token = generation_pb2.ScoredToken(chosen=score(b"a", -0.25), top=[score(b"a", -0.25), score(b"b", float("-inf"))])
    async with gateway((say("a", finish=STOP, prompt=1, logprobs=[token]), usage())) as house:
        answer = await house.post(PATH, {**HI, "logprobs": True, "top_logprobs": 2})
    [shown] = answer.json["choices"][0]["logprobs"]["content"]
    assert (shown["token"], shown["logprob"], shown["bytes"]) == ("a", -0.25, [97])
    assert [top["logprob"] for top in shown["top_logprobs"]] == [-0.25, -9999.0], "JSON has no infinity"


async def test_what_is_no_conversation_is_refused_with_every_field():
    messages = [
        {"role": "wizard", "content": "x"},
        {"role": "user"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]},
    ]
    async with gateway(HELLO) as house:
        answer = await house.post(PATH, {"messages": messages, "max_tokens": -1})
        assert not house.router.asked
    assert answer.status == 400
    params = {violation["param"] for violation in answer.error["violations"]}
    assert {"messages[0].role", "messages[1].content", "messages[2].content", "max_tokens"} <= params


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}, "modalities"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 2}, "tools"),
    ],
)
async def test_what_would_be_answered_with_something_else_is_refused(fields, param):
    async with gateway(HELLO, habits={"tool_format": "hermes"}) as house:
        answer = await house.post(PATH, {**HI, **fields})
        assert not house.router.asked
        assert (await house.post(PATH, {**HI, "modalities": ["text"]})).status == 200
    assert (answer.status, answer.error["param"]) == (400, param)


ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'


async def test_calls_of_tools_are_told_as_calls_whole_and_streamed():
    script = (say("I will. ", prompt=3), say(CALL[:20], first=1), say(CALL[20:], first=2, finish=STOP), usage())
    async with gateway(script, habits={"tool_format": "hermes"}) as house:
        whole = await house.post(PATH, {**HI, "tools": [ADD]})
        streamed = await house.post(PATH, {**HI, "tools": [ADD], "stream": True})
        asked = house.router.asked[0].chat
    assert json.loads(asked.tools_json) == [ADD]
    [choice] = whole.json["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I will. "
    [call] = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "add", "arguments": '{"a": 1}'}
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed.chunks]
    [told] = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert (told["index"], told["function"]["name"]) == (0, "add")
    assert streamed.chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_calls_whose_arguments_are_spelled_one_by_one_are_told_as_json():
    call = "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>"
    tool = {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}}}}
    async with gateway((say(call, prompt=3, finish=STOP), usage()), habits={"tool_format": "xml"}) as house:
        answer = await house.post(PATH, {**HI, "tools": [tool]})
    [choice] = answer.json["choices"]
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "tool_calls")


@pytest.mark.parametrize(
    ("habits", "fields", "shows"),
    [
        ({"tool_format": "hermes"}, {"tools": [ADD]}, False),
        ({"tool_format": "hermes", "hides_calls": True}, {"tools": [ADD]}, True),
        ({"tool_format": "hermes", "hides_calls": True}, {"tools": [ADD], "skip_special_tokens": True}, False),
        ({"tool_format": "hermes", "hides_calls": True}, {}, False),
        ({"tool_format": "granite"}, {"tools": [ADD]}, True),
        ({"thinks": True, "hides_thoughts": True}, {}, True),
    ],
)
async def test_marks_that_are_special_tokens_are_asked_for(habits, fields, shows):
    async with gateway(HELLO, habits=habits) as house:
        assert (await house.post(PATH, {**HI, **fields})).status == 200
        sampling = house.router.asked[0].sampling
    assert (sampling.HasField("skip_special_tokens") and not sampling.skip_special_tokens) is shows


async def test_thoughts_are_told_apart_by_the_models_own_marks():
    script = (say("<seed:think>hm</seed:think>Yes", prompt=3, finish=STOP), usage())
    habits = {"thinks": True, "thought_open": "<seed:think>", "thought_close": "</seed:think>"}
    async with gateway(script, habits=habits) as house:
        message = (await house.post(PATH, HI)).json["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm", "Yes")


THOUGHTFUL = {"thinks": True, "begins_in_thought": True}


@pytest.mark.parametrize(
    ("said", "thought", "content"),
    [
        ("<think>one", "hello", None),
        ("<think>one</think> so", None, "hello"),
        ("Well,", None, "hello"),
    ],
)
async def test_an_answer_goes_on_within_the_last_message(said, thought, content):
    """Whether its first word is a thought, the turn that goes on says, not the template."""
    messages = [*HI["messages"], {"role": "assistant", "content": said}]
    async with gateway(HELLO, habits=THOUGHTFUL) as house:
        body = {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
        answer = await house.post(PATH, body)
        asked = house.router.asked[0].chat
    assert (asked.continues_last, asked.opens_no_answer) == (True, True)
    message = answer.json["choices"][0]["message"]
    assert (message.get("reasoning_content"), message["content"]) == (thought, content)
    assert "baton-ignored-fields" not in answer.headers


@pytest.mark.parametrize(
    "body",
    [
        {**HI, "continue_final_message": True},
        {"messages": [{"role": "assistant", "content": ""}], "continue_final_message": True},
        {
            "messages": [*HI["messages"], {"role": "assistant", "content": "a"}],
            "continue_final_message": True,
            "add_generation_prompt": True,
        },
    ],
)
async def test_where_nothing_can_go_on_nothing_does(body):
    async with gateway(HELLO) as house:
        answer = await house.post(PATH, body)
        assert not house.router.asked
    assert (answer.status, answer.error["param"]) == (400, "continue_final_message")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_what_was_thought_before_reaches_the_router(field):
    messages = [*HI["messages"], {"role": "assistant", "content": "4", field: "2 and 2"}, *HI["messages"]]
    async with gateway(HELLO) as house:
        assert (await house.post(PATH, {"messages": messages})).status == 200
        assert house.router.asked[0].chat.messages[1].reasoning == "2 and 2"


async def test_who_takes_one_call_at_a_time_is_told_one():
    async with gateway((say(CALL * 2, prompt=3, finish=STOP), usage()), habits={"tool_format": "hermes"}) as house:
        both = await house.post(PATH, {**HI, "tools": [ADD]})
        one = await house.post(PATH, {**HI, "tools": [ADD], "parallel_tool_calls": False})
    assert [len(answer.json["choices"][0]["message"]["tool_calls"]) for answer in (both, one)] == [2, 1]
    assert one.json["choices"][0]["finish_reason"] == "tool_calls"


async def test_ids_of_calls_come_back_to_templates_of_mistrals():
    call = '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]'
    async with gateway((say(call, prompt=3, finish=STOP), usage()), habits={"tool_format": "mistral"}) as house:
        answer = await house.post(PATH, {**HI, "tools": [ADD]})
    [told] = answer.json["choices"][0]["message"]["tool_calls"]
    assert len(told["id"]) == 9
    assert told["id"].isalnum()


async def test_tools_are_not_shown_to_the_model_where_the_choice_is_none():
    async with gateway((say(CALL, prompt=3, finish=STOP), usage()), habits={"tool_format": "hermes"}) as house:
        answer = await house.post(PATH, {**HI, "tools": [ADD], "tool_choice": "none"})
        assert not house.router.asked[0].chat.tools_json
    assert answer.json["choices"][0]["message"]["content"] == CALL


async def test_a_model_that_knows_no_tools_says_so():
    async with gateway(HELLO) as house:
        answer = await house.post(PATH, {**HI, "tools": [ADD]})
    assert (answer.status, answer.error["code"]) == (501, "unsupported")


async def test_earlier_calls_and_their_answers_reach_the_router():
    messages = [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "add"}}],
        },
        {"role": "tool", "content": "3", "tool_call_id": "c"},
    ]
    async with gateway(HELLO) as house:
        await house.post(PATH, {"messages": messages})
        first, second = house.router.asked[0].chat.messages
    assert (first.tool_calls[0].id, first.tool_calls[0].name) == ("c", "add")
    assert (second.role, second.tool_call_id) == ("tool", "c")


async def test_thoughts_are_told_apart():
    script = (say("hm</think>", prompt=3), say("Yes", first=1, finish=STOP), usage())
    async with gateway(script, habits={"thinks": True, "begins_in_thought": True}) as house:
        whole = await house.post(PATH, HI)
        quiet = await house.post(PATH, {**HI, "chat_template_kwargs": {"enable_thinking": False}})
        asked = house.router.asked[1].chat
    message = whole.json["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm", "Yes")
    assert asked.enable_thinking is False
    assert quiet.json["choices"][0]["message"]["content"] == "hm</think>Yes"


@pytest.mark.parametrize(
    ("opens", "says", "thought"),
    [
        ({"begins_if_thinking": True, "begins_if_not_thinking": False}, True, "hm"),
        ({"begins_if_thinking": True, "begins_if_not_thinking": False}, None, None),
        ({"begins_in_thought": True, "begins_if_thinking": True, "begins_if_not_thinking": True}, False, "hm"),
        ({"begins_in_thought": True, "begins_if_thinking": True, "begins_if_not_thinking": False}, False, None),
        ({"begins_in_thought": True}, True, "hm"),
        ({"begins_in_thought": True}, False, None),
    ],
    ids=["EXAONE on", "EXAONE", "R1 off", "Qwen off", "older router on", "older router off"],
)
async def test_a_thought_begins_where_the_template_opened_it(opens, says, thought):
    switches = {} if says is None else {"chat_template_kwargs": {"enable_thinking": says}}
    script = (say("hm</think>Yes", prompt=3, finish=STOP), usage())
    async with gateway(script, habits={"thinks": True, **opens}) as house:
        answer = await house.post(PATH, {**HI, **switches})
        await house.post(PATH, {**HI, **switches, "guided_regex": "a"})
        after = house.router.asked[-1].constraint.after
    message = answer.json["choices"][0]["message"]
    assert message.get("reasoning_content") == thought
    assert message["content"] == ("hm</think>Yes" if thought is None else "Yes")
    assert after == ("" if thought is None else "</think>")


async def test_no_effort_is_not_to_think_and_other_efforts_are_named_as_ignored():
    async with gateway(
        (say("x", prompt=3, finish=STOP), usage()), habits={"thinks": True, "begins_in_thought": True}
    ) as house:
        none = await house.post(PATH, {**HI, "reasoning_effort": "none"})
        high = await house.post(PATH, {**HI, "reasoning_effort": "high"})
        both = await house.post(
            PATH, {**HI, "reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}}
        )
        asked = [request.chat for request in house.router.asked]
    assert [chat.HasField("enable_thinking") and chat.enable_thinking for chat in asked] == [False, False, True]
    assert asked[0].HasField("enable_thinking")
    assert not asked[1].HasField("enable_thinking")
    assert "baton-ignored-fields" not in none.headers
    assert high.headers["baton-ignored-fields"] == "reasoning_effort"
    assert none.json["choices"][0]["message"]["content"] == "x"
    assert both.json["choices"][0]["message"]["reasoning_content"] == "x"


async def test_no_alternatives_need_no_log_probabilities():
    async with gateway(HELLO) as house:
        assert (await house.post(PATH, {**HI, "top_logprobs": 0})).status == 200
        assert (await house.post(PATH, {**HI, "top_logprobs": 1})).status == 400
