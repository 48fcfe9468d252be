"""The words of a tokenizer.json, and how to keep control tokens out of a text's reach among them."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from common.core.entropy import SystemEntropy, mint_name
from common.core.ids import TokenId
from common.text.spelling import SPACE_MARK


def listed_words(described: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Of the model's own vocabulary: a table of ids, or a list in their order."""
    words = _model(described).get("vocab")
    if isinstance(words, dict):
        yield from ((word, token) for word, token in words.items() if type(token) is int and token >= 0)
    elif isinstance(words, list):
        named = ((entry[0], place) for place, entry in enumerate(words) if isinstance(entry, list) and len(entry) > 1)
        yield from ((word, place) for word, place in named if isinstance(word, str))


def without_control(described: Mapping[str, Any], control: Mapping[str, TokenId]) -> dict[str, Any]:
    """The description without its control tokens where its vocabulary would find them in a text.

    Unigram weighs every word that it lists, BPE merges pieces into one, or takes a whole word that it lists, as
    WordLevel does. Their places stay, so that all other ids do, with a spelling that no text has.
    """
    model = _model(described)
    found = {word: token for word, token in listed_words(described) if control.get(word) == token}
    if not found:
        return dict(described)
    if isinstance(words := model.get("vocab"), list):
        taken = set(found.values())
        model = {**model, "vocab": [["", entry[1]] if place in taken else entry for place, entry in enumerate(words)]}
    elif isinstance(words, dict):
        found = {word: token for word, token in found.items() if len(word.replace(SPACE_MARK, "")) > 1}
        model = _unmerged(model, found)
        if "merges" in model and model.get("ignore_merges") is not True:
            return {**described, "model": model}
        model = _renamed(model, {word: mint_name(SystemEntropy(), word) for word in found})
    others = [item for item in described["added_tokens"] if found.get(item["content"]) != item["id"]]
    return {**described, "model": model, "added_tokens": others}


def take_dropout(described: Mapping[str, Any]) -> bool:
    """Whether merges were left out by chance, as in training: never again, or a text would have other ids each time."""
    dropout = (model := _model(described)).get("dropout")
    model["dropout"] = None
    return bool(dropout)


def _unmerged(model: dict[str, Any], words: Collection[str]) -> dict[str, Any]:
    """Without the merges that make one of these words, or go on from one."""
    merges = model.get("merges")
    if not isinstance(merges, list):
        return model
    return {**model, "merges": [merge for merge in merges if not _touches(merge, words)]}


def _touches(merge: object, words: Collection[str]) -> bool:
    """A merge is a pair, or in older files both with a space between them."""
    pair = merge.split(" ") if isinstance(merge, str) else merge
    if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
        return False
    return "".join(pair) in words or pair[0] in words or pair[1] in words


def _renamed(model: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """With words that nobody can guess in the places of those that anybody could write."""
    words = {names.get(word, word): token for word, token in model["vocab"].items()}
    unknown = model.get("unk_token")
    return {**model, "vocab": words, "unk_token": names.get(unknown, unknown) if isinstance(unknown, str) else unknown}


def _model(described: Mapping[str, Any]) -> dict[str, Any]:
    model = described.get("model")
    return model if isinstance(model, dict) else {}
