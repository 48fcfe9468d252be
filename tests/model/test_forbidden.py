"""What the authors of a model never want drawn is not drawn, and what of their wishes is not followed is named."""

from pathlib import Path

import pytest

from common.core.errors import StartupError
from common.model.description import describe
from common.model.fields import Fields
from common.model.forbidden import MAX_BANS, Forbidden, forbidden
from tests.model.checkpoint import write_checkpoint, write_json


def read(**content: object) -> Forbidden:
    return forbidden(Fields(content, "generation_config.json"), 300, (1,))  # type: ignore[arg-type]


def test_suppressed_tokens_and_bad_words_are_banned_once_each() -> None:
    assert read(suppress_tokens=[7, 9], bad_words_ids=[[7], [3, 4]]).bans == ((7,), (9,), (3, 4))
    assert read(suppress_tokens=7).bans == ((7,),)
    assert read(suppress_tokens=None, bad_words_ids=None).bans == ()


def test_an_end_is_no_bad_word_and_may_be_suppressed() -> None:
    said = read(suppress_tokens=[1], bad_words_ids=[[1], [5, 1]])
    assert said.bans == ((1,), (5, 1))
    assert read(bad_words_ids=[[1]]).bans == ()


def test_what_the_model_cannot_draw_needs_no_ban() -> None:
    assert read(suppress_tokens=[299, 300], bad_words_ids=[[2, 70_000], [70_000, 2]]).bans == ((299,),)


@pytest.mark.parametrize("words", [7, [7], [[]], [["a"]], [[True]], [[-1]], {"a": 1}], ids=str)
def test_bad_words_of_a_wrong_type_are_refused_by_name(words: object) -> None:
    with pytest.raises(StartupError, match=r"generation_config\.json: bad_words_ids"):
        read(bad_words_ids=words)


def test_wishes_that_are_not_followed_are_named() -> None:
    assert read(no_repeat_ngram_size=3, begin_suppress_tokens=[5], num_beams=4).overlooked == (
        "begin_suppress_tokens",
        "no_repeat_ngram_size",
        "num_beams",
    )
    neutral = read(no_repeat_ngram_size=0, begin_suppress_tokens=[], num_beams=1, typical_p=1.0, stop_strings=None)
    assert neutral.overlooked == ()


def test_more_bans_than_a_placement_should_carry_are_named_as_not_followed() -> None:
    said = read(suppress_tokens=[*range(2, 9)], bad_words_ids=[[1, token % 300] for token in range(MAX_BANS)])
    assert len(said.bans) == 7
    assert said.overlooked == (f"bad_words_ids (over {MAX_BANS})",)


def test_a_folder_tells_both(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    write_json(folder / "generation_config.json", {"suppress_tokens": [7], "no_repeat_ngram_size": 2})
    said = describe(folder).forbidden
    assert (said.bans, said.overlooked) == (((7,),), ("no_repeat_ngram_size",))
