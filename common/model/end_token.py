"""The token that ends a text by the tokenizer's own word, beside those that the configs name.

Fine-tunes often teach a model another end and say so in the tokenizer alone; without it their answers never end.
"""

import json
import re
from pathlib import Path

from common.core.ids import TokenId

CONFIG, VOCABULARY = "tokenizer_config.json", "tokenizer.json"
MAX_BYTES = 64 * 2**20
_ADDED = re.compile(r'"added_tokens"\s*:\s*(?=\[)')


def tokenizer_end(folder: Path) -> TokenId | None:
    """Its id, or None where nothing can be read of it: the router reads these files in full, and says what is wrong."""
    try:
        end = json.loads(_read(folder / CONFIG)).get("eos_token")
        content = end.get("content") if isinstance(end, dict) else end
        found = _ADDED.search(text := _read(folder / VOCABULARY))  # the vocabulary behind it is long, and not needed
        added = json.JSONDecoder().raw_decode(text, found.end())[0] if found else []
        ids = [token["id"] for token in added if token["content"] == content]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return TokenId(ids[0]) if len(ids) == 1 and type(ids[0]) is int and ids[0] >= 0 else None


def _read(path: Path) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(path.name)
    return path.read_text(encoding="utf-8")
