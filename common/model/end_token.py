"""The token that ends a text by the tokenizer's own word, beside those that the configs name.

Fine-tunes often teach a model another end and say so in the tokenizer alone; without it their answers never end.
"""

import json
import re
from pathlib import Path
from typing import Any

from common.core.ids import TokenId

CONFIG, VOCABULARY = "tokenizer_config.json", "tokenizer.json"
MAX_BYTES = 64 * 2**20
_ADDED = re.compile(r'"added_tokens"\s*:\s*(?=\[)')
_WORDS = re.compile(r'"vocab"\s*:\s*(?=[\[{])')


def tokenizer_end(folder: Path) -> TokenId | None:
    """Its id, or None where nothing can be read of it: the router reads these files in full, and says what is wrong."""
    try:
        end = json.loads(_read(folder / CONFIG)).get("eos_token")
        content = end.get("content") if isinstance(end, dict) else end
        added = _value(_ADDED, text := _read(folder / VOCABULARY)) or []
        ids = [token["id"] for token in added if token["content"] == content]
        if not ids and isinstance(content, str):  # the vocabulary behind them is long, and seldom needed
            ids = _among(_value(_WORDS, text), content)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return TokenId(ids[0]) if len(ids) == 1 and type(ids[0]) is int and ids[0] >= 0 else None


def _value(key: re.Pattern[str], text: str) -> Any:
    found = key.search(text)
    return json.JSONDecoder().raw_decode(text, found.end())[0] if found else None


def _among(words: Any, content: str) -> list[Any]:
    """Where a word stands in a table of ids, or a list in their order."""
    if isinstance(words, dict):
        return [words[content]] if content in words else []
    return [place for place, entry in enumerate(words or ()) if entry[0] == content]


def _read(path: Path) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(path.name)
    return path.read_text(encoding="utf-8")
