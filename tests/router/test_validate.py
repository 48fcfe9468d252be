"""Goal: bad input is refused whole, with the path of every bad field, before it costs anything. Method: the bad-input
table of the reliability bar, row by row."""

import dataclasses
import math

import pytest

from common.config.sections.router import RouterSection
from common.core.errors import ContextLengthExceeded, InvalidRequest, NotFound
from common.core.ids import TokenId
from common.text.conversation import MAX_MESSAGES, ChatMessage, Conversation
from services.router.asked import Asked, AskedSampling
from services.router.ranges import MAX_VIOLATIONS
from services.router.validate import MAX_CHAT_VIOLATIONS, ModelFacts, check, check_length, check_scores

MODEL = ModelFacts(name="demo", context_length=4096, vocab_size=4096, eos_token_ids=(TokenId(1),))
LIMITS = RouterSection()
NAN, INF = math.nan, math.inf


def talk(*messages: ChatMessage, tools: str = "") -> Conversation:
    return Conversation(messages=messages, tools_json=tools)


def fields_of(asked: Asked) -> list[str]:
    """Paths of all violations; empty when the request is fine."""
    try:
        check(asked, model=MODEL, limits=LIMITS)
    except InvalidRequest as error:
        return [violation.field for violation in error.violations]
    return []


def sampled(**fields: object) -> Asked:
    return Asked(text="hello", sampling=AskedSampling(**fields))  # type: ignore[arg-type]


BAD_SAMPLING = [
    *[("max_tokens", value) for value in (0, -1, 1 << 31, 10**12)],
    *[("n", value) for value in (0, -1, 9, 10**9)],
    *[("temperature", value) for value in (-0.1, 2.1, NAN, INF, -INF)],
    *[("top_p", value) for value in (0.0, -0.5, 1.1, NAN)],
    *[("top_k", value) for value in (-1, 1 << 32)],
    *[("seed", value) for value in (1 << 63, -(1 << 63) - 1)],
    *[("min_tokens", value) for value in (-1,)],
    *[("stream_interval", value) for value in (0, 257)],
    *[("min_p", value) for value in (1.1, NAN, -1.0)],
    *[("repetition_penalty", value) for value in (10.1, 0.0, 1e-30, 0.009, -1.0, NAN, INF)],
    *[("frequency_penalty", value) for value in (2.1, -3.0, NAN)],
    *[("presence_penalty", value) for value in (-2.1, INF)],
    *[("logprobs", value) for value in (21, -2)],
    *[("prompt_logprobs", value) for value in (21, -1)],
    *[("logit_bias", dict.fromkeys(range(1025), 1.0))],
    *[("bad_words", ("no",) * 257)],
    *[("stop", ("x",) * 17)],
]


@pytest.mark.parametrize(("field", "value"), BAD_SAMPLING)
def test_a_bad_value_is_refused_by_its_path(field: str, value: object) -> None:
    assert fields_of(sampled(**{field: value})) == [f"sampling.{field}"]


def test_the_message_says_what_is_wrong_with_the_first_few() -> None:
    """Many clients of gRPC show a status's message, and none of its details."""
    with pytest.raises(InvalidRequest) as one:
        check(sampled(n=9), model=MODEL, limits=LIMITS)
    [violation] = one.value.violations
    assert one.value.message == f"invalid: sampling.n: {violation.description}"
    with pytest.raises(InvalidRequest) as many:
        check(sampled(n=9, top_p=2.0, temperature=3.0, max_tokens=0, min_p=2.0), model=MODEL, limits=LIMITS)
    assert many.value.message.endswith("; and 1 more")
    assert len(many.value.message) < 1000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 0.0),
        ("temperature", 2.0),
        ("top_p", 1.0),
        ("top_k", 0),
        ("n", 8),
        ("max_tokens", 1),
        ("seed", -(1 << 63)),
        ("seed", (1 << 63) - 1),
        ("min_p", 0.0),
        ("min_p", 1.0),
        ("repetition_penalty", 0.01),
        ("repetition_penalty", 0.009999999776482582),  # what 0.01 is on the wire
        ("repetition_penalty", 10.0),
        ("frequency_penalty", -2.0),
        ("presence_penalty", 2.0),
        ("logit_bias", {0: -100.0, 4095: 100.0}),
        ("logit_bias", dict.fromkeys(range(1024), 1.0)),
        ("allowed_token_ids", tuple(range(4096))),
        ("bad_words", ("no",) * 256),
        ("bad_token_sequences", ((1,) * 64,)),
        ("logprobs", 0),
        ("logprobs", 20),
        ("prompt_logprobs", 20),
        ("stop", ()),
        ("stop", ("x",) * 16),
        ("stop", ("x" * 256,)),
        ("stop_token_ids", (0, 4095)),
        ("stream_interval", 256),
    ],
)
def test_the_edge_of_a_range_is_inside(field: str, value: object) -> None:
    assert fields_of(sampled(**{field: value})) == []


@pytest.mark.parametrize("stop", ["", "x" * 257, "x" * 1024])
def test_a_bad_stop_string_is_named_by_its_index(stop: str) -> None:
    assert fields_of(sampled(stop=("fine", stop))) == ["sampling.stop[1]"]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"logit_bias": {4096: 1.0}}, "logit_bias[4096]"),
        ({"logit_bias": {3: 1.0, 7: NAN}}, "logit_bias[7]"),
        ({"logit_bias": {7: 100.5}}, "logit_bias[7]"),
        ({"allowed_token_ids": (5, 4096)}, "allowed_token_ids[1]"),
        ({"bad_words": ("fine", "")}, "bad_words[1]"),
        ({"bad_words": (" ",)}, "bad_words[0]"),
        ({"bad_words": ("x" * 257,)}, "bad_words[0]"),
        ({"bad_token_sequences": ((1,), ())}, "bad_token_sequences[1]"),
        ({"bad_token_sequences": ((1, 4096),)}, "bad_token_sequences[0].ids[1]"),
        ({"bad_token_sequences": ((1,) * 65,)}, "bad_token_sequences[0].ids"),
    ],
)
def test_a_bad_entry_of_a_list_is_named(values: dict[str, object], field: str) -> None:
    assert fields_of(sampled(**values)) == [f"sampling.{field}"]


def test_a_thousand_bad_entries_do_not_crowd_out_the_others() -> None:
    found = fields_of(sampled(logit_bias=dict.fromkeys(range(1000), NAN), bad_words=("",) * 200, min_p=2.0))
    assert found[0] == "sampling.min_p"
    assert len(found) == 1 + 2 * MAX_VIOLATIONS


@pytest.mark.parametrize(("num_prompt", "count"), [(131_072, 0), (65_536, 1), (6_241, 20)])
def test_log_probabilities_of_a_prompt_have_a_stated_limit(num_prompt: int, count: int) -> None:
    check_scores(num_prompt, count)
    check_scores(num_prompt * 100, None)
    with pytest.raises(InvalidRequest, match="131072"):
        check_scores(num_prompt + 1, count)


def test_all_violations_come_at_once() -> None:
    asked = Asked(
        request_id="no spaces please",
        tenant="-x",
        cache_salt="s" * 10_000,
        priority=9,
        sampling=AskedSampling(temperature=NAN, n=0, max_tokens=0, min_p=1.5, bad_words=("",)),
    )
    assert fields_of(asked) == [
        "request_id",
        "tenant",
        "cache_salt",
        "priority",
        "prompt",
        "sampling.temperature",
        "sampling.min_p",
        "sampling.max_tokens",
        "sampling.n",
        "sampling.bad_words[0]",
    ]


def test_min_tokens_over_max_tokens_is_refused() -> None:
    assert fields_of(sampled(min_tokens=9, max_tokens=8)) == ["sampling.min_tokens"]
    assert fields_of(sampled(min_tokens=8, max_tokens=8)) == []


def test_n_does_not_multiply_the_output_without_bound() -> None:
    assert fields_of(sampled(n=8, max_tokens=10_000)) == ["sampling.n"]
    assert fields_of(sampled(n=8, min_tokens=10_000)) == ["sampling.n"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (Asked(), "prompt"),
        (Asked(text="a", token_ids=(1,)), "prompt"),
        (Asked(text=""), "text"),
        (Asked(chat=talk()), "chat.messages"),
        (Asked(token_ids=()), "token_ids.ids"),
        (Asked(token_ids=(5, 4096)), "token_ids.ids[1]"),
        (Asked(token_ids=(5, -1)), "token_ids.ids[1]"),
        (Asked(token_ids=(1,) * (LIMITS.max_prompt_tokens + 1)), "token_ids.ids"),
        (Asked(chat=talk(ChatMessage(role="user", content="x"), tools="{")), "chat.tools"),
        (Asked(chat=talk(ChatMessage(role="user", content="x"), tools='[{"type": "function"}]')), "chat.tools[0]"),
        (Asked(chat=talk(ChatMessage(role="user", content="x"), tools="[" * 40 + "]" * 40)), "chat.tools"),
        (Asked(chat=talk(ChatMessage(role="robot", content="hi"))), "chat.messages[0].role"),
        (Asked(chat=talk(ChatMessage(role="user", content=" \n"))), "chat.messages[0].content"),
        (Asked(chat=talk(*[ChatMessage(role="user", content="hi")] * (MAX_MESSAGES + 1))), "chat.messages"),
    ],
)
def test_a_bad_prompt_is_refused_by_its_path(asked: Asked, field: str) -> None:
    assert fields_of(asked) == [field]


def test_another_model_is_not_found_and_the_own_is_fine() -> None:
    with pytest.raises(NotFound):
        check(Asked(text="a", model="gpt-9"), model=MODEL, limits=LIMITS)
    check(Asked(text="a", model="demo"), model=MODEL, limits=LIMITS)


@pytest.mark.parametrize(("prompt", "max_tokens"), [(4000, 97), (4000, 10**6), (4096, None), (5000, 1)])
def test_a_context_that_is_too_long_names_the_numbers(prompt: int, max_tokens: int | None) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        check_length(prompt, max_tokens, model=MODEL, limits=LIMITS)
    assert all(number in caught.value.message for number in (str(prompt), "4096"))
    assert caught.value.violations


def test_a_context_that_fits_exactly_is_served() -> None:
    check_length(4000, 96, model=MODEL, limits=LIMITS)
    check_length(4095, None, model=MODEL, limits=LIMITS)


def test_a_prompt_over_the_routers_own_limit_is_refused() -> None:
    tight = dataclasses.replace(LIMITS, max_prompt_tokens=10)
    with pytest.raises(ContextLengthExceeded):
        check_length(11, 1, model=MODEL, limits=tight)


def test_an_empty_turn_among_others_is_the_callers_business() -> None:
    """Clients send an empty system prompt where nobody wrote one; nothing but silence is refused."""
    silent, asks = ChatMessage(role="system", content=""), ChatMessage(role="user", content="hi")
    assert fields_of(Asked(chat=talk(silent, asks))) == []
    assert fields_of(Asked(chat=talk(asks, ChatMessage(role="user", content=" ")))) == []
    assert fields_of(Asked(chat=talk(silent))) == ["chat.messages[0].content"]


def test_ten_thousand_bad_messages_do_not_hide_another_field() -> None:
    messages = (ChatMessage(role="nobody", content=""),) * (MAX_MESSAGES + 1)
    found = fields_of(Asked(chat=talk(*messages), sampling=AskedSampling(n=0)))
    assert found[0] == "chat.messages"
    assert found[-1] == "sampling.n"
    assert len(found) == MAX_CHAT_VIOLATIONS + 1
