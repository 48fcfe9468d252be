"""White space beside control tokens, and before words, is read from a template's text as the library reads it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.text.chat import ChatTemplate
from common.text.conversation import ChatMessage
from tests.text.vocabularies import encoded, load_json, swallowing_library

SCHEMES = ("first", "always", "never")
pieces = st.lists(st.sampled_from(["[s]", "[r]", "[l]", "[b]", " ", "\n", "\x1c", "\xa0", "ab", "c"]), max_size=8)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(pieces.map("".join))
def test_a_templates_text_gets_the_librarys_ids(scheme: str, text: str) -> None:
    library = swallowing_library(scheme)
    tokenizer = load_json(library.to_str(), {"chat_template": "{{ " + json.dumps(text) + " }}"})
    tokens = encoded(ChatTemplate(tokenizer), [ChatMessage(role="user", content="x")])
    assert list(tokens) == library.encode(text, add_special_tokens=False).ids


def test_white_space_of_a_client_beside_a_token_that_swallows_it_is_swallowed() -> None:
    """As the library does, which cannot tell whose it is."""
    library = swallowing_library("always")
    tokenizer = load_json(library.to_str(), {"chat_template": "[r]\n{{ messages[0].content }}[l]"})
    tokens = encoded(ChatTemplate(tokenizer), [ChatMessage(role="user", content="  ab \n")])
    assert list(tokens) == library.encode("[r]\n  ab \n[l]", add_special_tokens=False).ids
    assert len(tokens) == len(["[r]", "\u2581", "a", "b", "[l]"])


def test_a_client_cannot_spell_such_a_token() -> None:
    library = swallowing_library("first")
    tokenizer = load_json(library.to_str(), {"chat_template": "[s]{{ messages[0].content }}"})
    tokens = encoded(ChatTemplate(tokenizer), [ChatMessage(role="user", content="[r] a")])
    assert [tokens[0], *tokens[-2:]] == library.encode("[s] a", add_special_tokens=False).ids
    assert set(tokens) & set(tokenizer.control.ids.values()) == {tokens[0]}
