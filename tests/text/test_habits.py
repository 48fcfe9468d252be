"""What a model's chat template betrays of how it calls tools and thinks."""

import json

import pytest

from common.text.chat import ChatTemplate
from common.text.habits import habits
from tests.text.vocabularies import load_json, metaspace_library


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ('<tool_call>\n{"name": <function-name>}\n</tool_call>', "hermes"),
        ("<tool_call>\n<function=example_function_name>\n<parameter=x>", "xml"),
        ("<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n<arg_value>", ""),
        ("<seed:tool_call>\n<function=example_function_name>", "seed"),
        ("[TOOL_CALLS][{{ call }}]", "mistral"),
        ("respond with <|tool_call|> followed by a JSON list of tools used", "granite"),
        ("<|python_tag|>{{ call }}", "llama"),
        ("<function=name>{{ call }}</function>", ""),
        ("{{ messages }}", ""),
    ],
)
def test_a_template_shows_how_calls_are_written(template: str, form: str) -> None:
    assert habits(template, lambda _said: "").tool_format == form


@pytest.mark.parametrize(
    ("template", "opening", "marks", "begins"),
    [
        ("{{ content.split('</think>')[-1] }}", "assistant\n", ("<think>", "</think>"), False),
        ("<think>", "assistant\n<think>\n", ("<think>", "</think>"), True),
        ("<seed:think>", "assistant\n", ("<seed:think>", "</seed:think>"), False),
        ("[THINK]{{ thought }}[/THINK]", "[/INST]", ("[THINK]", "[/THINK]"), False),
        ("{{ messages }}", "assistant\n", ("", ""), False),
    ],
)
def test_a_template_shows_how_thoughts_are_written(
    template: str, opening: str, marks: tuple[str, str], begins: bool
) -> None:
    found = habits(template, lambda _said: opening)
    assert (found.thought_open, found.thought_close) == marks
    assert found.thinks == bool(marks[0])
    assert found.begins_in_thought == begins


CLOSED = "<think>\\n\\n</think>\\n\\n"


@pytest.mark.parametrize(
    ("template", "begins"),
    [
        ("{{ '<think>\\n' }}", (True, True, True)),
        (f"{{{{ '{CLOSED}' if enable_thinking is defined and not enable_thinking }}}}", (False, False, False)),
        (
            f"{{{{ '{CLOSED}' if enable_thinking is defined and not enable_thinking else '<think>' }}}}",
            (True, True, False),
        ),
        (
            f"{{{{ '<think>\\n' if enable_thinking is defined and enable_thinking else '{CLOSED}' }}}}",
            (False, True, False),
        ),
    ],
    ids=["DeepSeek-R1", "Qwen 3", "Qwen 3.6", "EXAONE 4"],
)
def test_a_template_opens_a_thought_where_it_is_told_to(template: str, begins: tuple[bool, bool, bool]) -> None:
    """What comes before the closing mark would be the answer, or the answer a thought."""
    found = ChatTemplate(load_json(metaspace_library().to_str(), {"chat_template": template})).habits
    assert (found.begins_in_thought, found.begins_if_thinking, found.begins_if_not_thinking) == begins


def test_marks_that_are_special_tokens_are_told() -> None:
    """Text leaves them out unless somebody asks for them, and what they mark would run into the rest."""
    described = json.loads(metaspace_library().to_str())
    for number, (content, special) in enumerate([("[TOOL_CALLS]", True), ("[THINK]", True), ("<tool_call>", False)]):
        described["added_tokens"].append(
            {**described["added_tokens"][0], "id": 400 + number} | {"content": content, "special": special}
        )
    seen = {
        source: ChatTemplate(load_json(json.dumps(described), {"chat_template": source})).habits
        for source in ("[TOOL_CALLS]", "[THINK][/THINK]", "<tool_call><think>")
    }
    assert [(each.hides_calls, each.hides_thoughts) for each in seen.values()] == [
        (True, False),
        (False, True),
        (False, False),
    ]
