"""A chat template is found wherever folders keep one."""

import json
from pathlib import Path

import pytest

from common.core.errors import StartupError
from common.text.chat import ChatTemplate
from common.text.conversation import ChatMessage
from common.text.template_source import read_template, read_tool_template
from common.text.tokenizer import Tokenizer
from tests.text.vocabularies import DEMO, encoded


def test_a_file_of_its_own_goes_before_the_field(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ 'file' }}")
    (tmp_path / "tokenizer.json").write_text((DEMO / "tokenizer.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ 'field' }}"}))
    assert Tokenizer.load(tmp_path).chat_template == "{{ 'file' }}"


def test_an_older_file_is_read_where_there_is_no_field(tmp_path: Path) -> None:
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "old"}))
    assert read_template(tmp_path, {}) == "old"
    assert read_template(tmp_path, {"chat_template": "field"}) == "field"


def test_of_several_the_default_is_taken(tmp_path: Path) -> None:
    several = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    assert read_template(tmp_path, {"chat_template": several}) == "plain"
    assert read_template(tmp_path, {}) is None


def test_conversations_with_tools_have_a_template_of_their_own_where_the_folder_has_one(tmp_path: Path) -> None:
    """Hermes and Command R list two; newer folders keep the other one as a file."""
    several = [{"name": "tool_use", "template": "<tool_call>{{ tools }}"}, {"name": "default", "template": "plain"}]
    (tmp_path / "tokenizer.json").write_text((DEMO / "tokenizer.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    tokenizer = Tokenizer.load(tmp_path)
    template, said = ChatTemplate(tokenizer), [ChatMessage(role="user", content="x")]
    tools = json.dumps([{"type": "function", "function": {"name": "f"}}])
    assert tokenizer.decode(encoded(template, said), skip_special_tokens=False) == "plain"
    assert tokenizer.decode(encoded(template, said, tools_json=tools), skip_special_tokens=False).startswith(
        "<tool_call>[{"
    )
    assert template.habits.tool_format == "hermes"
    (tmp_path / "chat_template.jinja").write_text("a file's")
    assert read_tool_template(tmp_path, {"chat_template": several}) is None, "a file goes before the field"
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("another file's")
    assert read_tool_template(tmp_path, {}) == "another file's"


def test_a_template_for_tools_that_is_none_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="tool_use is no text"):
        read_tool_template(tmp_path, {"chat_template": [{"name": "tool_use", "template": 5}]})


@pytest.mark.parametrize(
    ("config", "old", "said"),
    [
        ({"chat_template": [{"name": "rag", "template": "x"}]}, None, "none is default"),
        ({"chat_template": 5}, None, "neither a text nor"),
        ({}, "[]", "no chat_template in it"),
        ({}, "{", "no chat_template in it"),
    ],
)
def test_what_is_no_template_stops_the_start(
    config: dict[str, object], old: str | None, said: str, tmp_path: Path
) -> None:
    if old is not None:
        (tmp_path / "chat_template.json").write_text(old)
    with pytest.raises(StartupError, match=said):
        read_template(tmp_path, config)


def test_a_folder_with_sentencepieces_own_format_alone_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(StartupError, match=r"is missing in .*; tokenizer.model is not read. transformers can write it"):
        Tokenizer.load(tmp_path)
