"""Which tokens control and which are text, from tokenizer.json and tokenizer_config.json together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from common.core.ids import TokenId
from common.text.vocabulary import listed_words

MARKS = frozenset({"<>", "[]"})
"""How marks begin and end."""
_PLAIN = {"single_word": False, "lstrip": False, "rstrip": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlTokens:
    """Ids by spelling, and the two that frame a text."""

    ids: Mapping[str, TokenId]
    hidden: frozenset[TokenId]
    """Left out of text when special tokens are skipped: those that are marked special or have a name."""
    bos: str = ""
    eos: str = ""
    named: Mapping[str, str] = field(default_factory=dict)
    """What tokenizer_config.json calls its tokens (`pad_token`, `unk_token`): templates may ask for any."""
    eats_before: frozenset[str] = frozenset()
    """Spellings whose tokens swallow the white space before them in a template's text."""
    eats_after: frozenset[str] = frozenset()


def take_named(described: dict[str, Any], config: Mapping[str, Any]) -> None:
    """Count marks with a name (`eos_token`) as added tokens, as the library that reads both files does: some folders
    list them among the words alone, and a template that spells one means that token. A name that is no mark is a word:
    one that pads (`!`) is text elsewhere.

    Raises ValueError for a list of added tokens that is none.
    """
    added = described.get("added_tokens") or []
    if not isinstance(added, list) or not all(map(_is_added, added)):
        raise ValueError("added_tokens is not a list of tokens with content, id and special")
    known, words = {item["content"] for item in added}, dict(listed_words(described))
    marks = {name for name in _names(config).values() if name[0] + name[-1] in MARKS}
    for name in sorted(marks & words.keys() - known):
        added.append({"content": name, "id": words[name], "special": True, "normalized": False} | _PLAIN)
    described["added_tokens"] = added


def control_tokens(described: Mapping[str, Any], config: Mapping[str, Any]) -> ControlTokens:
    """Of a description whose named tokens are taken (`take_named`)."""
    added, names = described["added_tokens"], _names(config)
    special = {*names.values(), *_marked_special(config)}
    hidden = frozenset(TokenId(item["id"]) for item in added if item["special"] or item["content"] in special)
    return ControlTokens(
        ids={item["content"]: TokenId(item["id"]) for item in added if item["special"] or item["content"].strip()},
        hidden=hidden,
        bos=names.get("bos_token", ""),
        eos=names.get("eos_token", ""),
        named=names,
        eats_before=frozenset(item["content"] for item in added if item.get("lstrip")),
        eats_after=frozenset(item["content"] for item in added if item.get("rstrip")),
    )


def _names(config: Mapping[str, Any]) -> dict[str, str]:
    return {key: name for key, said in config.items() if key.endswith("_token") and (name := _content(said))}


def _marked_special(config: Mapping[str, Any]) -> Iterator[str]:
    """By tokenizer_config.json, whose word on it is the later one."""
    told = config.get("added_tokens_decoder")
    for entry in told.values() if isinstance(told, dict) else ():
        if isinstance(entry, dict) and entry.get("special") is True:
            yield _content(entry)


def _is_added(item: object) -> bool:
    """Whether it is a token that was added: not empty, so that it can begin with something."""
    return (
        isinstance(item, dict)
        and isinstance(item.get("content"), str)
        and bool(item["content"])
        and type(item.get("id")) is int
        and item["id"] >= 0
        and isinstance(item.get("special"), bool)
    )


def _content(entry: object) -> str:
    """A token in tokenizer_config.json is a string or an object with its content."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else ""
