"""Text of a model or a server on its way to a terminal, which obeys some characters instead of showing them."""

_KEPT = frozenset("\n\t")
_TURNS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
"""Marks that turn the direction of what follows, so that it reads as something else than it is."""

_DROPPED = {code: None for code in (*range(0x20), *range(0x7F, 0xA0), *_TURNS) if chr(code) not in _KEPT}


def printable(text: str) -> str:
    """Without control characters but line breaks and tabs: nothing moves a cursor, sets a title or a clipboard."""
    return text.translate(_DROPPED)
