"""How a vocabulary spells bytes. Two families are in use; both are byte-exact, so text can be cut anywhere.

BYTE_LEVEL  every byte has a printable character of its own (GPT-2's table): Llama 3, Qwen, the demo model.
METASPACE   text as it is, with a mark for the space and <0x41> for single bytes: Llama 2, Mistral.
"""

import re
from enum import StrEnum
from typing import Any, assert_never

from common.core.errors import Reason, StartupError

SPACE_MARK = "\N{LOWER ONE EIGHTH BLOCK}"
_BYTE_ENTRY = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class SpellingKind(StrEnum):
    BYTE_LEVEL = "byte_level"
    METASPACE = "metaspace"


class Spelling:
    """From a vocabulary entry to the bytes it stands for."""

    def __init__(self, kind: SpellingKind, *, has_leading_space: bool = False) -> None:
        self.kind = kind
        self.has_leading_space = has_leading_space
        """The encoder put a space before the text, so a decoded whole text drops one."""

    def to_bytes(self, entry: str, *, is_added: bool) -> bytes:
        """`is_added`: entries that were added as text stand for themselves."""
        if is_added:
            return entry.encode()
        match self.kind:
            case SpellingKind.BYTE_LEVEL:
                if any(character not in _BYTE_OF for character in entry):
                    return entry.encode()  # white space that was added as text
                return bytes(_BYTE_OF[character] for character in entry)
            case SpellingKind.METASPACE:
                if found := _BYTE_ENTRY.fullmatch(entry):
                    return bytes([int(found[1], 16)])
                return entry.replace(SPACE_MARK, " ").encode()
            case _:
                assert_never(self.kind)


def spelling_of(described: dict[str, Any]) -> Spelling:
    """From the `decoder` of tokenizer.json. Raises StartupError for a family that is neither."""
    decoder = described.get("decoder") or {}
    parts = decoder.get("decoders", []) if decoder.get("type") == "Sequence" else [decoder]
    kinds = {part.get("type") for part in parts}
    if "ByteLevel" in kinds:
        return Spelling(SpellingKind.BYTE_LEVEL)
    if kinds & {"Metaspace", "ByteFallback"}:
        strips = any(part.get("type") == "Strip" and part.get("start") for part in parts)
        puts = any(part.get("type") == "Metaspace" and part.get("prepend_scheme") != "never" for part in parts)
        return Spelling(SpellingKind.METASPACE, has_leading_space=strips or puts)
    raise StartupError(
        message=f"tokenizer.json: decoder {sorted(map(str, kinds))} is not byte-level and not metaspace",
        reason=Reason.MODEL_LOAD_FAILED,
    )


def _byte_table() -> dict[str, int]:
    """GPT-2's table: printable Latin-1 bytes stand for themselves, the others for characters from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(0x100 + index): byte for index, byte in enumerate(others)})
    return table


_BYTE_OF = _byte_table()
