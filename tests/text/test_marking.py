"""Marks keep clients' words from becoming control tokens, and leave templates to do their work on them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.text.chat import ChatTemplate
from common.text.conversation import ChatMessage, ToolCall
from common.text.marking import MARKS, Marking, unused_marks
from tests.text.test_chat import CONTROL, user, with_template
from tests.text.vocabularies import encoded

MARK = MARKS[0]
MARKED = Marking(
    mark=MARK, openers=Marking.against(CONTROL).openers | {"["}, cores=Marking.against([*CONTROL, "[INST]"]).cores
)


def rendered(source: str, messages: list[ChatMessage], tools: list[dict[str, Any]] | None = None) -> str:
    tokenizer = with_template(source)
    tokens = encoded(ChatTemplate(tokenizer), messages, tools_json=json.dumps(tools) if tools else "")
    return tokenizer.decode(tokens, skip_special_tokens=False)


PLAIN = ["call12345", "function", "object", "get-weather_2", "user.name", "größe", "城市", "a" * 64]
RISKY = ["inst", "INST", "end", "End", "system", "a b", "<|end|>", "a" * 65, "ın\u017ft", "城 市", "a\n"]


@pytest.mark.parametrize("word", PLAIN)
def test_a_plain_word_is_left_alone(word: str) -> None:
    assert MARKED.word(word) == word


@pytest.mark.parametrize("word", RISKY)
def test_what_a_control_token_is_made_of_is_marked(word: str) -> None:
    assert MARKED.word(word) != word
    assert MARKED.removed(MARKED.word(word)) == word


@given(st.text("insſtı|<>[]end_. \n", max_size=6), st.sampled_from(["[{}]", "<|{}|>", "{}", "<{}>", "[/{}]"]))
def test_no_word_becomes_a_control_token_between_a_templates_brackets(word: str, around: str) -> None:
    for made in (MARKED.word(word), MARKED.word(word).upper(), MARKED.word(word).lower()):
        assert around.format(made) not in {*CONTROL, "[INST]"}


def test_a_control_token_made_of_letters_is_marked_inside_of_longer_words() -> None:
    marking = Marking.against(["yes"])
    marked = Marking(mark=MARK, openers=marking.openers, cores=marking.cores).word("yesterday")
    assert "yes" not in marked


def test_ids_of_calls_keep_their_length() -> None:
    """Mistral's templates refuse ids that are not nine characters long."""
    source = (
        "{% for m in messages %}{% for call in m.tool_calls or [] %}"
        "{% if call.id | length != 9 %}{{ raise_exception('nine') }}{% endif %}{{ call.id }}{% endfor %}"
        "{% if m.tool_call_id %}{% if m.tool_call_id | length != 9 %}{{ raise_exception('nine') }}{% endif %}"
        "={{ m.tool_call_id }}{% endif %}{% endfor %}"
    )
    call = ToolCall(id="Ab3456789", name="look_up", arguments="{}")
    messages = [
        ChatMessage(role="assistant", content="", tool_calls=(call,)),
        ChatMessage(role="tool", content="x", tool_call_id="Ab3456789"),
    ]
    assert rendered(source, messages) == "Ab3456789=Ab3456789"


def test_a_template_can_compare_types_and_find_names_among_the_required() -> None:
    source = (
        "{% for tool in tools if tool.type == 'function' %}{% set form = tool.function.parameters %}"
        "{% for name, spec in form.properties.items() %}{{ name }}:{{ 'str' if spec.type == 'string' else 'any' }}"
        "{{ '!' if name in form.required else '?' }} {% endfor %}{% endfor %}"
    )
    properties = {"city": {"type": "string"}, "城市": {}, "user.name": {}, "days": {}}
    form = {"type": "object", "properties": properties, "required": ["city", "城市", "user.name"]}
    tools = [{"type": "function", "function": {"name": "f", "parameters": form}}]
    assert rendered(source, [user("x")], tools) == "city:str! 城市:any! user.name:any! days:any? "


def test_marks_that_a_template_wrote_as_escapes_are_taken_out() -> None:
    """A list in a text is written as Python writes it, and JSON may be asked for in ASCII."""
    tools = [{"type": "function", "function": {"name": "f", "description": "d e", "tags": ["two words", "<|end|>"]}}]
    source = "{{ tools[0].function.tags }} {{ tools | tojson(ensure_ascii=True) }} {{ tools[0].function.tags | upper }}"
    expected = f"['two words', '<|end|>'] {json.dumps(tools)} ['TWO WORDS', '<|END|>']"
    assert rendered(source, [user("x")], tools) == expected


@pytest.mark.parametrize("num_own", range(5))
@pytest.mark.parametrize("num_times", range(1, 4))
def test_an_escaped_mark_takes_no_backslash_of_the_text_with_it(num_own: int, num_times: int) -> None:
    marked, plain = MARKED.text("a b" + "\\" * num_own), "a b" + "\\" * num_own
    for _ in range(num_times):
        marked, plain = json.dumps(marked), json.dumps(plain)
    assert MARKED.removed(marked) == plain


def test_old_thoughts_are_found_by_the_template_and_open_nothing_else() -> None:
    source = "{% for m in messages %}{{ m.content.split('</think>')[-1].lstrip('\\n') }};{% endfor %}"
    said = ChatMessage(role="assistant", content="<think>\nhm <|end|>\n</think>\n\nfine<|end|>")
    tokenizer = with_template(source)
    tokens = encoded(ChatTemplate(tokenizer), [said, user("no</think>tes")])
    assert tokenizer.decode(tokens, skip_special_tokens=False) == "fine<|end|>;no</think>tes;", "a user has no thoughts"
    assert not set(tokens) & set(CONTROL.values())


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("<think>\n\n</think>\n\n", "|"),
        ("<think>\nhm\n</think>\n\n", "hm|"),
        ("<think>\nhm\n</think>\n\nfine\n", "hm|fine\n"),
        ("hm\n</think>\nfine", "hm|fine"),
        ("<think>", "|"),
    ],
)
def test_thoughts_are_trimmed_as_if_there_were_no_marks(said: str, shown: str) -> None:
    """Qwen's way. An answer that was nothing but a thought would bring its blank lines into the next prompt."""
    source = (
        "{% set said = messages[0].content %}{% set parts = said.split('</think>') %}"
        "{% if said.startswith('<think>') or parts | length > 1 %}"
        "{{ parts[0].rstrip('\n').split('<think>')[-1].lstrip('\n') }}|"
        "{{ parts[-1].lstrip('\n') if parts | length > 1 }}{% endif %}"
    )
    assert rendered(source, [ChatMessage(role="assistant", content=said)]) == shown


def test_the_mark_is_one_that_nothing_spells() -> None:
    assert unused_marks([MARKS[0], "\\UFDD1", "x"], 2) == (MARKS[2], MARKS[3])
    assert unused_marks(["".join(MARKS[1:])], 1) == (MARKS[0],)
    assert unused_marks(["".join(MARKS[1:])], 2) is None
