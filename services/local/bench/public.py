"""What may stand in a results file that others read: commands and settings without the places of this machine."""

from collections.abc import Iterable
from pathlib import PurePosixPath


def public_words(words: Iterable[str]) -> str:
    """Words as they were typed, but of each path only its last name: `model.path=/a/b/S` is `model.path=S`."""
    return " ".join(_public(word) for word in words)


def _public(word: str) -> str:
    key, equals, value = word.partition("=")
    if equals:
        return f"{key}={_public(value)}"
    return PurePosixPath(word).name if "/" in word else word
