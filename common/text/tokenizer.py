"""The model's tokenizer. The door of `tokenizers`.

Text from clients is plain: whatever it spells is never a control token. Control tokens come from the chat template and
the post-processor alone. Every added token that is not mere white space counts as control, also those marked
`special: false` (tool and thinking marks): a client could otherwise open a turn that is not its own.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Library

from common.core.ids import TokenId
from common.text.control import ControlTokens, control_tokens, take_named
from common.text.spelling import Spelling, spelling_of
from common.text.template_source import read_template, read_tool_template
from common.text.tokenizer_file import find_tokenizer, refused
from common.text.vocabulary import take_dropout, without_control

MAX_FILE_BYTES = 64 << 20
"""Chosen: four times the largest tokenizer.json in wide use; a larger one is no tokenizer."""


class Tokenizer:
    """Immutable after loading, but for a cache of single entries; safe to share between tasks and threads."""

    def __init__(
        self,
        library: Library,
        control: ControlTokens,
        spelling: Spelling,
        chat_template: str | None,
        *,
        tool_template: str | None = None,
        continuing: Library | None = None,
        had_dropout: bool = False,
    ) -> None:
        """`tool_template`: for conversations with tools, where it is another. `continuing`: for text that something
        stands before, where a text's beginning is encoded in its own way. `had_dropout`: its file asks
        for ids by chance.
        """
        self._library = library
        self._continuing = continuing or library
        self._bytes: dict[TokenId, bytes] = {}
        self._texts: dict[TokenId, str | None] = {}
        self._spelling = spelling
        self._control = {token: word for word, token in control.ids.items()}
        self.control = control
        self.chat_template = chat_template
        self.tool_template = tool_template
        self.had_dropout = had_dropout
        entries = library.get_vocab(with_added_tokens=True)
        self.vocab_size = max(entries.values(), default=-1) + 1
        """Ids below this have a spelling; the model's own vocabulary may be padded beyond it."""

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """From its files, with the chat template. Raises StartupError naming the file and what is wrong."""
        path = find_tokenizer(folder)
        described = _read_json(path)
        config_path = folder / "tokenizer_config.json"
        config = _read_json(config_path) if config_path.exists() else {}
        try:
            take_named(described, config)
            control = control_tokens(described, config)
        except ValueError as error:
            raise refused(path, str(error)) from error
        for added in described.get("added_tokens") or ():
            # The library spells out special tokens only; see the module's docstring.
            added["special"] = added["content"] in control.ids
        described = without_control(described, control.ids)
        # Truncation and padding are training's business: a prompt is encoded whole or refused.
        described["truncation"] = described["padding"] = None
        had_dropout = take_dropout(described)
        library = _library(path, described)
        continuing = _library(path, described) if _begin_without_space(described) else None
        return cls(
            library,
            control,
            spelling_of(described),
            read_template(folder, config),
            tool_template=read_tool_template(folder, config),
            continuing=continuing,
            had_dropout=had_dropout,
        )

    def encode(self, text: str, *, add_special_tokens: bool) -> tuple[TokenId, ...]:
        """Ids of a client's text. `add_special_tokens`: let the post-processor frame it, usually with a first token.

        Other threads run meanwhile: a batch of one, because the library holds the interpreter's lock for a single text.
        """
        (encoding,) = self._library.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return tuple(map(TokenId, encoding.ids))

    def encode_on(self, text: str) -> tuple[TokenId, ...]:
        """Ids of a text that a control token stands before."""
        (encoding,) = self._continuing.encode_batch_fast([text], add_special_tokens=False)
        return tuple(map(TokenId, encoding.ids))

    def token_bytes(self, token: TokenId) -> bytes:
        """What a token adds to the text, in UTF-8; perhaps a part of a character. Empty for an id without spelling."""
        known = self._bytes.get(token)
        if known is None:
            control = self._control.get(token)
            spelled = control or (self._library.id_to_token(token) if 0 <= token < self.vocab_size else None)
            known = b"" if spelled is None else self._spelling.to_bytes(spelled, is_added=control is not None)
            if token < self.vocab_size:
                self._bytes[token] = known
        return known

    def whole_text(self, token: TokenId) -> str | None:
        """What a token adds to the text where that is whole characters: of nearly every one. None: there is a part of
        one in it."""
        try:
            return self._texts[token]
        except KeyError:
            text = _whole(self.token_bytes(token))
            if 0 <= token < self.vocab_size:
                self._texts[token] = text
            return text

    def decode(self, tokens: tuple[TokenId, ...], *, skip_special_tokens: bool) -> str:
        """The text of a whole sequence. Bytes that are no UTF-8 become replacement characters."""
        shown = (token for token in tokens if not (skip_special_tokens and token in self.control.hidden))
        text = b"".join(map(self.token_bytes, shown)).decode("utf-8", errors="replace")
        return text.removeprefix(" ") if self._spelling.has_leading_space else text


def _whole(spelled: bytes) -> str | None:
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return None


def _library(path: Path, described: dict[str, Any]) -> Library:
    try:
        library = Library.from_str(json.dumps(described))
    except Exception as error:  # the library raises bare Exception
        raise refused(path, f"not a tokenizer: {error}") from error
    library.encode_special_tokens = True
    return library


def _begin_without_space(described: dict[str, Any]) -> bool:
    """Whether a tokenizer put a space before the first words of a text, and before no others: it puts none then."""
    outer = described.get("pre_tokenizer") or {}
    parts = outer.get("pretokenizers") or [outer]
    firsts = [part for part in parts if part.get("type") == "Metaspace" and part.get("prepend_scheme") == "first"]
    for part in firsts:
        part["prepend_scheme"] = "never"
    return bool(firsts)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise refused(path, f"{size} bytes, at most {MAX_FILE_BYTES}")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise refused(path, error.strerror or "cannot be read") from error
    except (ValueError, RecursionError) as error:
        raise refused(path, f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise refused(path, "not a JSON object")
    return content
