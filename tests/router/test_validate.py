"""Goal: bad input is refused whole, with the path of every bad field, before it costs anything. Method: the bad-input
table of the reliability bar, row by row."""

import dataclasses
import math

import pytest

from common.config.sections.router import RouterSection
from common.core.errors import ContextLengthExceeded, InvalidRequest, NotFound
from common.core.ids import TokenId
from common.text.chat import MAX_MESSAGES, ChatMessage
from services.router.asked import Asked, AskedSampling
from services.router.validate import MAX_CHAT_VIOLATIONS, ModelFacts, check, check_length

MODEL = ModelFacts(name="demo", context_length=4096, vocab_size=4096, eos_token_ids=(TokenId(1),))
LIMITS = RouterSection()
NAN, INF = math.nan, math.inf


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
    *[("min_p", value) for value in (0.1, NAN, -1.0)],
    *[("repetition_penalty", value) for value in (1.1, 0.0, NAN)],
    *[("frequency_penalty", value) for value in (0.1, -3.0, NAN)],
    *[("presence_penalty", value) for value in (0.1, INF)],
    *[("logit_bias", value) for value in ({1: 5.0}, {1: NAN})],
    *[("allowed_token_ids", (1,)), ("bad_words", ("no",)), ("logprobs", 0), ("logprobs", 21), ("prompt_logprobs", 1)],
    *[("stop", ("x",) * 17)],
]


@pytest.mark.parametrize(("field", "value"), BAD_SAMPLING)
def test_a_bad_value_is_refused_by_its_path(field: str, value: object) -> None:
    assert fields_of(sampled(**{field: value})) == [f"sampling.{field}"]


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
        ("repetition_penalty", 1.0),
        ("frequency_penalty", 0.0),
        ("presence_penalty", -0.0),
        ("logit_bias", {}),
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


def test_all_violations_come_at_once() -> None:
    asked = Asked(
        request_id="no spaces please",
        tenant="-x",
        cache_salt="s" * 10_000,
        priority=9,
        sampling=AskedSampling(temperature=NAN, n=0, max_tokens=0, min_p=0.5),
    )
    assert fields_of(asked) == [
        "request_id",
        "tenant",
        "cache_salt",
        "priority",
        "prompt",
        "sampling.temperature",
        "sampling.max_tokens",
        "sampling.n",
        "sampling.min_p",
    ]


def test_min_tokens_over_max_tokens_is_refused() -> None:
    assert fields_of(sampled(min_tokens=9, max_tokens=8)) == ["sampling.min_tokens"]
    assert fields_of(sampled(min_tokens=8, max_tokens=8)) == []


def test_n_does_not_multiply_the_output_without_bound() -> None:
    assert fields_of(sampled(n=8, max_tokens=10_000)) == ["sampling.n"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (Asked(), "prompt"),
        (Asked(text="a", token_ids=(1,)), "prompt"),
        (Asked(text=""), "text"),
        (Asked(chat=()), "chat.messages"),
        (Asked(token_ids=()), "token_ids.ids"),
        (Asked(token_ids=(5, 4096)), "token_ids.ids[1]"),
        (Asked(token_ids=(5, -1)), "token_ids.ids[1]"),
        (Asked(token_ids=(1,) * (LIMITS.max_prompt_tokens + 1)), "token_ids.ids"),
        (Asked(chat=(ChatMessage(role="robot", content="hi"),)), "chat.messages[0].role"),
        (Asked(chat=(ChatMessage(role="user", content=" \n"),)), "chat.messages[0].content"),
        (Asked(chat=(ChatMessage(role="user", content="hi"),) * (MAX_MESSAGES + 1)), "chat.messages"),
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


def test_ten_thousand_bad_messages_do_not_hide_another_field() -> None:
    messages = (ChatMessage(role="nobody", content=""),) * (MAX_MESSAGES + 1)
    found = fields_of(Asked(chat=messages, sampling=AskedSampling(n=0)))
    assert found[0] == "chat.messages"
    assert found[-1] == "sampling.n"
    assert len(found) == MAX_CHAT_VIOLATIONS + 1
