"""Tokenizers to test with: the demo model's, and two small ones with what the demo model lacks."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Library

from common.core.ids import TokenId
from common.text.chat import ChatTemplate
from common.text.conversation import ChatMessage, Conversation
from common.text.tokenizer import Tokenizer

DEMO = Path(__file__).parents[2] / "models" / "demo"


@cache
def demo() -> Tokenizer:
    """Byte-level, trained, with control tokens and a chat template."""
    return Tokenizer.load(DEMO)


@cache
def demo_library() -> Library:
    """The reference: the library as it is."""
    return Library.from_file(str(DEMO / "tokenizer.json"))


@cache
def metaspace() -> Tokenizer:
    """Llama-2 style: space marks, byte entries, a leading space; a thinking mark that is added but not special."""
    return load_json(metaspace_library().to_str(), {"bos_token": {"content": "<s>"}, "eos_token": "</s>"})


@cache
def metaspace_library() -> Library:
    letters = ["\u2581", *"abcdefghijklmnopqrstuvwxyz<>|/\u00e9\u4e2d"]
    entries = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters, "\u2581a", "ab"]
    merges = [("\u2581", "a"), ("a", "b")]
    library = Library(
        models.BPE({entry: index for index, entry in enumerate(entries)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    library.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    library.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    library.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ("<s>", "</s>")])
    library.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    return library


def encoded(template: ChatTemplate, messages: Sequence[ChatMessage], **said: Any) -> tuple[TokenId, ...]:
    """A conversation of these messages; `said`: its other fields."""
    return template.encode(Conversation(messages=tuple(messages), **said))


def load_json(described: str, config: dict[str, Any]) -> Tokenizer:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tokenizer.json").write_text(described, encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return Tokenizer.load(folder)


@cache
def swallowing_library(scheme: str) -> Library:
    """Phi 3's and Mistral's ways: control tokens that swallow the white space beside them, and a space that is put
    before all words, or the first ones.
    """
    entries = ["<unk>", "\u2581", *"abcdefghijklmnopqrstuvwxyz\n\x1c\u00a0"]
    library = Library(models.BPE({entry: index for index, entry in enumerate(entries)}, [], unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    library.decoder = decoders.Metaspace(prepend_scheme=scheme, split=False)
    library.add_special_tokens(
        [
            AddedToken("[s]", special=True, normalized=False),
            AddedToken("[r]", special=True, normalized=False, rstrip=True),
            AddedToken("[l]", special=True, normalized=False, lstrip=True),
            AddedToken("[b]", special=True, normalized=False, lstrip=True, rstrip=True),
        ]
    )
    return library
