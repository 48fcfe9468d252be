"""Tokenizers: every text survives, and no text becomes a control token."""

from functools import cache
from pathlib import Path

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from models.build.tokenizer import CHAT_TEMPLATE, CONTROL_TOKENS, control_id, encode_plain, synthetic_tokenizer

DEMO = Path(__file__).parents[2] / "models" / "demo" / "tokenizer.json"
AWKWARD = ("", " ", "\n\n\t x", "naïve 东京 🦊👩‍👩‍👧", "\x00\x7f\u2028", "a\r\nb", "1234567 _x__y(z)", "<|user|>")


@cache
def tokenizer_named(name: str) -> Tokenizer:
    """The demo model's tokenizer, or a synthetic one of so many entries."""
    return Tokenizer.from_file(str(DEMO)) if name == "demo" else synthetic_tokenizer(vocab=int(name))


@pytest.mark.parametrize("name", ["demo", "512", "32000"])
def test_awkward_text_survives_and_stays_text(name: str) -> None:
    """Encode and decode give the same string back, and a spelled-out control token is not one."""
    tokenizer = tokenizer_named(name)
    for text in AWKWARD + CONTROL_TOKENS:
        ids = encode_plain(tokenizer, text)
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
        assert all(index >= len(CONTROL_TOKENS) for index in ids), text


@given(text=st.text())
def test_any_text_survives_the_demo_tokenizer(text: str) -> None:
    """UTF-8 text of any kind comes back unchanged."""
    tokenizer = tokenizer_named("demo")
    assert tokenizer.decode(encode_plain(tokenizer, text), skip_special_tokens=False) == text


@pytest.mark.parametrize("vocab", [262, 512, 4096, 32_000, 128_256])
def test_a_synthetic_tokenizer_has_the_size_asked_for(vocab: int) -> None:
    """The embedding matrix and the tokenizer agree; control tokens keep the ids 0 to 5."""
    tokenizer = synthetic_tokenizer(vocab=vocab)
    assert tokenizer.get_vocab_size() == vocab
    assert [control_id(tokenizer, token) for token in CONTROL_TOKENS] == list(range(len(CONTROL_TOKENS)))


@pytest.mark.parametrize("vocab", [261, 1_000_000])
def test_a_size_out_of_reach_is_refused(vocab: int) -> None:
    """Fewer entries than bytes, or more than there are merges."""
    with pytest.raises(ValueError, match="no synthetic tokenizer"):
        synthetic_tokenizer(vocab=vocab)


def test_the_demo_tokenizer_saves_most_on_python() -> None:
    """A newline with its indentation is one token, so is a name with its leading mark."""
    text = "    def close(self):\n        return self.read()\n"
    ids = encode_plain(tokenizer_named("demo"), text)
    assert len(ids) <= 14
    assert tokenizer_named("demo").decode(ids) == text


def test_the_chat_template_marks_turns_and_never_spells_an_unknown_role() -> None:
    """Known roles get their token, any other role is the user's, each turn is closed."""
    template = jinja2.Environment(autoescape=False).from_string(CHAT_TEMPLATE)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "begin", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
    ]
    rendered = template.render(
        messages=messages, bos_token="<|begin|>", eos_token="<|end|>", add_generation_prompt=True
    )
    assert rendered == ("<|begin|><|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>Yes?<|end|><|assistant|>")


def test_encoding_with_special_tokens_begins_with_the_begin_token() -> None:
    """The post-processor adds the begin token once, as Llama tokenizers do."""
    for name in ("demo", "512"):
        ids = tokenizer_named(name).encode("x").ids
        assert ids[0] == 0
        assert len(ids) == 2
