"""What an answer must look like, as its source text: carried from client to workers, compiled where it is used."""

from dataclasses import dataclass
from enum import StrEnum

JSON_WHITE_SPACE = r"( |\n {0,16})"
"""Between the marks of JSON, at most once. Chosen: what models write; a weak one cannot go on with it for ever."""


class ConstraintKind(StrEnum):
    """How the source is written."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    """Any object; the source is empty."""
    REGEX = "regex"
    CHOICE = "choice"
    """One of several texts; the source is a JSON list of them."""
    GRAMMAR = "grammar"
    """Lark's notation, as llguidance reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """The whole answer matches. With `after`, free text up to and including that mark may come first: a thought."""

    kind: ConstraintKind
    source: str = ""
    after: str = ""

    @property
    def num_bytes(self) -> int:
        return len(self.source.encode(errors="surrogatepass"))
