"""What keeps the words of clients apart from a template's own: an invisible mark wherever they could begin, or become a
part of, a control token.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Self

MARKS = tuple(map(chr, range(0xFDD0, 0xFDF0)))
"""Unicode's noncharacters: no text needs them. The first that no message contains becomes the mark."""

FEW_OPENERS = 8
"""Measured: up to so many, looking for each is quicker than looking each character up."""

_WORD = re.compile(r"[\w.-]{1,64}")
_THOUGHT = re.compile(r"(</?think>)")
_ENDS = re.compile(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marking:
    """Puts `mark` where the text of clients could begin a control token, in whatever shape it comes.

    Templates compare short words with their own (the type of a parameter, its name among the required ones) and count
    the characters of ids. So a plain word is left alone, unless it is what some control token is made of.
    """

    mark: str
    openers: frozenset[str] = frozenset()
    """What control tokens begin with, in both cases."""
    cores: frozenset[str] = frozenset()
    """Control tokens without what stands around their letters, in lower case: `[INST]` is `inst`."""

    @classmethod
    def against(cls, spellings: Collection[str]) -> Self:
        """Without a mark yet: what depends on the control tokens alone."""
        first = {spelling[0] for spelling in spellings}
        return cls(
            mark="",
            openers=frozenset(each for one in first for each in (one, one.lower(), one.upper()) if len(each) == 1),
            cores=frozenset(_ENDS.sub("", spelling).casefold() for spelling in spellings),
        )

    def text(self, content: str) -> str:
        """Marks inside and around, but not around white space: templates trim."""
        inner = content.strip()
        if not inner:
            return content
        at = content.index(inner)
        return f"{content[:at]}{self.mark}{self.inside(inner)}{self.mark}{content[at + len(inner) :]}"

    def turn(self, content: str) -> str:
        """What an assistant said before. Its `<think>` and `</think>` stay as they are: templates leave old thoughts
        out by them, and a thought is no turn of somebody else's. They look for it at the beginning, and trim what
        stands before and after: there the marks are not in the way.
        """
        parts = _THOUGHT.split(content)
        return "".join(part if _THOUGHT.fullmatch(part) else self.text(part) for part in parts)

    def inside(self, content: str) -> str:
        if len(self.openers) > FEW_OPENERS:
            return content.translate({ord(opener): opener + self.mark for opener in self.openers})
        for opener in self.openers:
            content = content.replace(opener, opener + self.mark)
        return content

    def word(self, content: str) -> str:
        """A name or an id: as it is, where it is a plain word."""
        shapes = content, content.upper(), content.lower()
        return content if _WORD.fullmatch(content) and not any(map(self._is_risky, shapes)) else self.text(content)

    def _is_risky(self, shape: str) -> bool:
        """Of a word in a shape that a template may give it: a dotless i becomes a capital I like any other."""
        return shape.casefold() in self.cores or not self.openers.isdisjoint(shape)

    def value(self, value: Any) -> Any:
        """Every text within a JSON value; keys keep their ends, because templates look things up by them."""
        match value:
            case str():
                return self.word(value)
            case dict():
                return {self.inside(key): self.value(item) for key, item in value.items()}
            case list():
                return [self.value(item) for item in value]
            case _:
                return value

    def removed(self, text: str) -> str:
        """A rendered text without marks, also without those that a template wrote as an escape."""
        text = text.replace(self.mark, "")
        number = f"{ord(self.mark):04x}"
        if number not in text.lower():
            return text
        return re.sub(rf"(\\+)u{number}", lambda found: _own(found[1]), text, flags=re.IGNORECASE)


def _own(backslashes: str) -> str:
    """Those before an escaped mark that are a text's own. Escaped n times over, each of these became 2^n, and the mark
    has 2^(n-1): the lowest bit of their number."""
    number = len(backslashes)
    return backslashes[: number - (number & -number)]


def unused_marks(said: Iterable[str], count: int) -> tuple[str, ...] | None:
    """So many that are in none of the texts; None where there are not enough left."""
    texts = [(text, text.lower()) for text in said]
    found: list[str] = []
    for mark in MARKS:
        # JSON and Python may spell a mark as an escape, so one whose number appears is taken as used too.
        if not any(mark in text or f"{ord(mark):04x}" in lower for text, lower in texts):
            found.append(mark)
            if len(found) == count:
                return tuple(found)
    return None
