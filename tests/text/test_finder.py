"""Of many spellings the longest is found, as quickly as of a few."""

import json
import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.text.chat import ChatTemplate
from common.text.conversation import ChatMessage
from common.text.finder import finder
from tests.text.test_chat import user
from tests.text.vocabularies import DEMO, demo, encoded, load_json

spellings = st.sets(st.text("ab|(.<\\u017e", min_size=1, max_size=4), max_size=12)


@given(spellings, st.text("ab|(.<\\u017e", max_size=30))
def test_it_finds_what_trying_each_from_the_longest_on_finds(words: set[str], text: str) -> None:
    plain = re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)")
    assert [(found.start(), found.group()) for found in finder(words).finditer(text)] == [
        (found.start(), found.group()) for found in plain.finditer(text)
    ]


@pytest.mark.parametrize("depth", [10, 600])
def test_spellings_that_each_begin_the_next_are_found(depth: int) -> None:
    words = ["a" * length for length in range(1, depth + 1)]
    [found] = finder(words).findall("b" + "a" * depth)
    assert len(found) == depth


def test_ten_thousand_added_words_hold_nobody_up() -> None:
    """Goal: a vocabulary that was extended reads as quickly as another. Tried one after the other they took 3 s."""
    chance = random.Random(5)
    described, config = (DEMO / "tokenizer.json").read_text(), json.loads((DEMO / "tokenizer_config.json").read_text())
    words = {"".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=6)) for _ in range(10_000)}
    first = 4096 + len(demo().control.ids)
    entries = [
        f'{{"id": {first + number}, "content": "{word}", "special": false, "single_word": false, "lstrip": false, '
        f'"rstrip": false, "normalized": false}},'
        for number, word in enumerate(sorted(words))
    ]
    template = ChatTemplate(
        load_json(described.replace('"added_tokens": [', '"added_tokens": [' + "".join(entries)), config)
    )
    content = "hello <world> foo bar 7 [x] " * 3600
    began = time.process_time()
    tokens = encoded(template, [user(content)])
    assert time.process_time() - began < 1.5
    assert list(tokens) == list(encoded(ChatTemplate(demo()), [ChatMessage(role="user", content=content)]))
