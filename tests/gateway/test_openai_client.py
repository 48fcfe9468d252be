"""The `openai` package, unchanged, against a real local cluster with the demo model."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from tests.cluster.house import house
from tests.standing import kept_open

pytestmark = [pytest.mark.cluster, pytest.mark.calm, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(200)]

DEMO = Path("models/demo")
START_S = 60.0
MODEL = "demo"
TALK: Any = [{"role": "user", "content": "What does this function return?"}]
TEMPLATE = (
    "{{ bos_token }}{% if tools %}<|system|>"
    "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}Answer with <tool_call>{...}</tool_call>.{{ eos_token }}"
    "{% endif %}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""The demo model's own knows no tools."""

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "degrees": {"type": "integer", "maximum": 50}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}
CLOCK: Any = {"type": "function", "function": {"name": "get_time", "parameters": CITY}}


@pytest.fixture(autouse=True)
def _nothing_left_running() -> None:
    """In place of the usual check: processes of a standing cluster come and go. `house` looks when all have ended."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AsyncOpenAI]:
    """One cluster for the file."""
    folder = tmp_path_factory.mktemp("model") / MODEL
    shutil.copytree(DEMO, folder)
    described = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**described, "chat_template": TEMPLATE}))
    settings = (f"model.path={folder}", f"model.name={MODEL}", "model.verify_manifest=false", "local.gateways=1")
    async with kept_open(house(settings=settings), START_S) as cluster:
        url = f"http://{cluster.cluster.gateway_address()}/v1"
        http = openai.DefaultAsyncHttpxClient(trust_env=False)
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=60.0, http_client=http) as one:
            yield one


async def test_the_model_is_listed(client: AsyncOpenAI) -> None:
    models = await client.models.list()
    assert [model.id for model in models.data] == [MODEL]
    assert models.data[0].model_dump()["root"] == MODEL  # vLLM's benchmark names its tokenizer by it
    assert (await client.models.retrieve(MODEL)).id == MODEL


async def test_a_chat_is_the_same_whole_and_streamed(client: AsyncOpenAI) -> None:
    asked: Any = {"model": MODEL, "messages": TALK, "max_tokens": 12, "seed": 5}
    whole = await client.chat.completions.create(**asked)
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage is not None
    assert whole.usage.completion_tokens <= 12
    stream = await client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    parts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(parts) == whole.choices[0].message.content
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == [
        whole.choices[0].finish_reason
    ]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


async def test_a_completion_is_the_same_whole_and_streamed(client: AsyncOpenAI) -> None:
    asked: Any = {"model": MODEL, "prompt": "def add(a, b):", "max_tokens": 10, "temperature": 0}
    whole = await client.completions.create(**asked)
    stream = await client.completions.create(**asked, stream=True)
    assert "".join([choice.text async for chunk in stream for choice in chunk.choices]) == whole.choices[0].text
    assert whole.usage is not None
    assert whole.usage.prompt_tokens > 0


async def test_choices_and_echo(client: AsyncOpenAI) -> None:
    answer = await client.completions.create(model=MODEL, prompt="import os", max_tokens=4, n=2, echo=True, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.text.startswith("import os") for choice in answer.choices)


async def test_log_probabilities_of_both_forms(client: AsyncOpenAI) -> None:
    chat = await client.chat.completions.create(
        model=MODEL, messages=TALK, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3
    )
    scores = chat.choices[0].logprobs
    assert scores is not None
    assert scores.content is not None
    assert all(len(score.top_logprobs) == 3 and score.logprob <= 0 for score in scores.content)
    text = await client.completions.create(model=MODEL, prompt="import os", max_tokens=5, temperature=0, logprobs=2)
    told = text.choices[0].logprobs
    assert told is not None
    assert told.tokens is not None
    assert told.text_offset is not None
    assert len(told.tokens) == len(told.text_offset) == 5


async def test_prompts_are_scored_as_evaluation_harnesses_ask_for_it(client: AsyncOpenAI) -> None:
    """Lists of ids, echoed with their log probabilities: what follows a context is read from them."""
    prompts = [[40, 41, 42, 43, 44], [50, 51, 52]]
    answer = await client.completions.create(
        model=MODEL, prompt=prompts, max_tokens=1, temperature=0, logprobs=1, echo=True, seed=1234
    )
    for prompt, choice in zip(prompts, answer.choices, strict=True):
        scores = choice.logprobs
        assert scores is not None
        assert scores.token_logprobs is not None
        assert scores.top_logprobs is not None
        assert scores.tokens is not None
        assert len(scores.token_logprobs) == len(scores.top_logprobs) == len(scores.tokens) == len(prompt) + 1
        assert scores.token_logprobs[0] is None
        assert "".join(scores.tokens) == choice.text
        assert scores.text_offset == [len("".join(scores.tokens[:index])) for index in range(len(prompt) + 1)]
        assert all(score <= 0 for score in scores.token_logprobs[1:])
        likeliest = [max(top.values()) for top in scores.top_logprobs[1:]]
        assert all(score <= best for score, best in zip(scores.token_logprobs[1:], likeliest, strict=True))


@pytest.mark.parametrize("seed", range(3))
async def test_a_schema_is_obeyed(client: AsyncOpenAI, seed: int) -> None:
    answer = await client.chat.completions.create(
        model=MODEL,
        messages=TALK,
        seed=seed,
        max_tokens=120,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}},
    )
    assert answer.choices[0].finish_reason == "stop"
    said = json.loads(answer.choices[0].message.content or "")
    assert list(said) == ["city", "degrees"]
    assert len(said["city"]) <= 12
    assert said["degrees"] <= 50


async def test_a_choice_in_vllms_spelling(client: AsyncOpenAI) -> None:
    answer = await client.completions.create(
        model=MODEL, prompt="Yes or no?", max_tokens=20, extra_body={"structured_outputs": {"choice": ["yes", "no"]}}
    )
    assert answer.choices[0].text in ("yes", "no")
    assert answer.choices[0].finish_reason == "stop"


async def test_a_required_tool_is_called(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=MODEL,
        messages=TALK,
        tools=[WEATHER, CLOCK],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=150,
        seed=3,
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls or ()
    assert call.type == "function"
    assert call.function.name in ("get_weather", "get_time")
    assert set(json.loads(call.function.arguments)) == {"city", "degrees"}


async def test_a_named_tool_is_called_in_a_stream(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=TALK,
        tools=[WEATHER, CLOCK],
        tool_choice={"type": "function", "function": {"name": "get_time"}},
        max_tokens=150,
        stream=True,
    )
    deltas = [choice.delta async for chunk in stream for choice in chunk.choices]
    calls = [call for delta in deltas for call in delta.tool_calls or ()]
    assert [call.function.name for call in calls if call.function and call.function.name] == ["get_time"]
    arguments = "".join(call.function.arguments or "" for call in calls if call.function)
    assert set(json.loads(arguments)) == {"city", "degrees"}


async def test_errors_are_the_librarys_own(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model=MODEL, messages=TALK, temperature=9)
    assert bad.value.param == "temperature" or "temperature" in str(bad.value)
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="nobody", messages=TALK)
    with pytest.raises(openai.BadRequestError) as regex:
        await client.completions.create(model=MODEL, prompt="x", extra_body={"guided_regex": "foo**"})
    assert "repeats a repetition" in str(regex.value)
    with pytest.raises(openai.InternalServerError) as unsupported:
        await client.embeddings.create(model=MODEL, input="x")
    assert unsupported.value.status_code == 501
