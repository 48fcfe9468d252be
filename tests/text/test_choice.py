"""What a client sees of a choice's tokens, however they come."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.core.ids import TokenId
from common.text.choice import ChoiceText, TextDelta
from common.text.tokenizer import Tokenizer
from tests.text.vocabularies import demo, metaspace

VOCABULARIES = {"byte level": demo, "metaspace": metaspace}


def tokens_of(text: str) -> tuple[TokenId, ...]:
    return demo().encode(text, add_special_tokens=False)


@st.composite
def streams(draw: st.DrawFn) -> tuple[Tokenizer, list[tuple[TokenId, ...]]]:
    """Arbitrary ids, many of them halves of characters, in arbitrary pieces."""
    tokenizer = VOCABULARIES[draw(st.sampled_from(sorted(VOCABULARIES)))]()
    spelled = tokenizer.encode(draw(st.text(max_size=20)), add_special_tokens=False)
    wild = draw(st.lists(st.integers(0, tokenizer.vocab_size + 3).map(TokenId), max_size=10))
    tokens = [*spelled, *wild]
    cuts = sorted(draw(st.lists(st.integers(0, len(tokens)), max_size=5)))
    borders = [0, *cuts, len(tokens)]
    return tokenizer, [tuple(tokens[a:b]) for a, b in pairwise(borders)]


def play(it: ChoiceText, pieces: list[tuple[TokenId, ...]]) -> tuple[str, int, str | None]:
    """Text, tokens that count, stop string."""
    text, num_tokens = "", 0
    for index, piece in enumerate(pieces):
        delta = it.push(piece, is_last=index == len(pieces) - 1)
        text, num_tokens = text + delta.text, num_tokens + delta.num_tokens
        if delta.stop_string is not None:
            return text, num_tokens, delta.stop_string
    return text, num_tokens, None


@given(streams())
def test_any_cut_gives_the_text_of_the_whole(stream: tuple[Tokenizer, list[tuple[TokenId, ...]]]) -> None:
    tokenizer, pieces = stream
    tokens = tuple(token for piece in pieces for token in piece)
    whole = b"".join(tokenizer.token_bytes(token) for token in tokens if token not in tokenizer.control.hidden).decode(
        errors="replace"
    )
    assert play(ChoiceText(tokenizer), pieces) == (whole, len(tokens), None)


@given(streams(), st.lists(st.text("e abé�", min_size=1, max_size=3), min_size=1, max_size=3))
def test_stops_and_counts_do_not_depend_on_the_cut(
    stream: tuple[Tokenizer, list[tuple[TokenId, ...]]], stops: list[str]
) -> None:
    tokenizer, pieces = stream
    singles = [(token,) for piece in pieces for token in piece] or [()]
    assert play(ChoiceText(tokenizer, stops=stops), pieces) == play(ChoiceText(tokenizer, stops=stops), singles)


@given(streams(), st.lists(st.text("e ab", min_size=1, max_size=3), max_size=2), st.integers(0, 6))
def test_a_replayed_choice_continues_as_the_old_one_would(
    stream: tuple[Tokenizer, list[tuple[TokenId, ...]]], stops: list[str], min_tokens: int
) -> None:
    tokenizer, pieces = stream
    tokens = tuple(token for piece in pieces for token in piece)
    half = len(tokens) // 2
    old, new = (ChoiceText(tokenizer, stops=stops, min_tokens=min_tokens) for _ in range(2))
    for token in tokens[:half]:
        if old.push((token,)).stop_string is not None:
            return
    new.push(tokens[:half])
    assert new.push(tokens[half:], is_last=True) == old.push(tokens[half:], is_last=True)


def test_half_a_character_waits_and_a_lost_one_is_replaced_at_the_end() -> None:
    it = ChoiceText(demo())
    rocket = tokens_of("\U0001f680")
    assert len(rocket) > 1
    assert it.push(rocket[:-1]).text == ""
    assert it.push(rocket[-1:]).text == "\U0001f680"
    assert it.push(rocket[:1], is_last=True).text == "\ufffd"


def test_tokens_behind_a_stop_string_do_not_count() -> None:
    tokens = tokens_of("x = 1\n\ny = 2")
    it = ChoiceText(demo(), stops=["\n\n"])
    delta = it.push(tokens)
    assert (delta.text, delta.stop_string) == ("x = 1", "\n\n")
    assert 0 < delta.num_tokens < len(tokens)
    assert demo().decode(tokens[: delta.num_tokens], skip_special_tokens=True).startswith("x = 1\n\n")


def test_a_stop_token_counts_and_adds_no_text() -> None:
    it = ChoiceText(demo(), stops=["zz"])
    word, stop = tokens_of("z"), tokens_of("!")
    assert it.push((*word, *stop), is_last=True, stop_token=stop[0]) == TextDelta(
        text="z", num_tokens=2, offsets=(0, 1)
    )


def test_a_stop_string_before_the_stop_token_wins() -> None:
    end = demo().control.ids["<|end|>"]
    it = ChoiceText(demo(), stops=["b"])
    delta = it.push((*tokens_of("a"), *tokens_of("b"), end), is_last=True, stop_token=end)
    assert delta == TextDelta(text="a", num_tokens=2, stop_string="b", offsets=(0, 1))


def test_min_tokens_suspends_stop_strings_and_nothing_else() -> None:
    tokens = (*tokens_of("a"), *tokens_of("b"), *tokens_of("a"), *tokens_of("b"))
    it = ChoiceText(demo(), stops=["b"], min_tokens=3)
    assert it.push(tokens) == TextDelta(text="aba", num_tokens=4, stop_string="b", offsets=(0, 1, 2, 3))
    exact = ChoiceText(demo(), stops=["b"], min_tokens=2)
    assert exact.push(tokens) == TextDelta(text="a", num_tokens=2, stop_string="b", offsets=(0, 1))


def test_held_text_goes_out_at_the_end() -> None:
    it = ChoiceText(demo(), stops=["abc"])
    assert it.push(tokens_of("xab")).text == "x"
    assert it.flush() == TextDelta(text="ab", num_tokens=0)


def test_special_tokens_are_hidden_unless_asked_for() -> None:
    end = demo().control.ids["<|end|>"]
    assert ChoiceText(demo()).push((end,)).text == ""
    assert ChoiceText(demo(), skip_special_tokens=False).push((end,)).text == "<|end|>"


def test_nothing_may_follow_the_end() -> None:
    it = ChoiceText(demo(), stops=["a"])
    it.push(tokens_of("a"))
    with pytest.raises(AssertionError):
        it.push(tokens_of("b"))
