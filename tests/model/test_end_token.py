"""An answer ends where the tokenizer says that a text ends, too."""

import json
from pathlib import Path

import pytest

from common.model.description import describe
from common.model.end_token import tokenizer_end
from tests.model.checkpoint import write_checkpoint

ADDED = [
    {"id": 0, "content": "<s>", "special": True},
    {"id": 7, "content": "<|im_end|>", "special": True},
    {"id": 9, "content": "twice", "special": True},
    {"id": 8, "content": "twice", "special": True},
    {"id": -3, "content": "negative", "special": True},
]


def write_tokenizer(folder: Path, end: object, added: object = ADDED, words: object = {"a": 1}) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": end}))
    described = {"version": '"added_tokens": [', "added_tokens": added, "model": {"vocab": words}}
    (folder / "tokenizer.json").write_text(json.dumps(described, indent=1))


@pytest.mark.parametrize("end", ["<|im_end|>", {"content": "<|im_end|>", "lstrip": False}])
def test_the_end_is_named_by_its_text_or_as_an_object(end: object, tmp_path: Path) -> None:
    write_tokenizer(tmp_path, end)
    assert tokenizer_end(tmp_path) == 7


@pytest.mark.parametrize("added", [ADDED, [], None])
@pytest.mark.parametrize(
    ("words", "found"),
    [
        ({"a": 1, "vocab": 0, "</s>": 2}, 2),
        ([["<unk>", 0.0], ["</s>", -1.5]], 1),
        ({"a": 1}, None),
        ({"</s>": -1}, None),
        ({"</s>": "2"}, None),
        ([[], 5], None),
        (7, None),
    ],
)
def test_the_end_may_be_listed_among_the_words_alone(
    words: object, found: int | None, added: object, tmp_path: Path
) -> None:
    write_tokenizer(tmp_path, "</s>", added, words)
    assert tokenizer_end(tmp_path) == found


@pytest.mark.parametrize("end", [None, 5, "", "unknown", "twice", "negative", ["<s>"]])
def test_an_end_that_is_none_ends_nothing(end: object, tmp_path: Path) -> None:
    write_tokenizer(tmp_path, end)
    assert tokenizer_end(tmp_path) is None


@pytest.mark.parametrize("added", [5, [5], {"a": 1}, [{"id": 7}], None])
def test_damaged_files_end_nothing(added: object, tmp_path: Path) -> None:
    write_tokenizer(tmp_path, "<|im_end|>", added)
    assert tokenizer_end(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [{"id"')
    assert tokenizer_end(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text("[" * 100_000)
    assert tokenizer_end(tmp_path) is None
    assert tokenizer_end(tmp_path / "nowhere") is None


def test_it_stands_beside_the_ends_that_the_configs_name(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m")
    named = describe(folder).generation.eos_ids
    write_tokenizer(folder, "<|im_end|>")
    assert describe(folder).generation.eos_ids == (*named, 7)
    write_tokenizer(folder, "<s>")
    assert describe(folder).generation.eos_ids == (*named, 0), "the first token is one, too"
    write_tokenizer(folder, "<|im_end|>", [{"id": 10**6, "content": "<|im_end|>", "special": True}])
    assert describe(folder).generation.eos_ids == named, "no token that the model can draw"
