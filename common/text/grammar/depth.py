"""How deep brackets are nested, without recursion: asked before anything that recurses reads the text."""

from common.text.grammar.limits import MAX_DEPTH
from common.text.grammar.trouble import ConstraintTrouble

_OPEN, _CLOSE, _QUOTES = "([{", ")]}", "\"'"


def check_depth(source: str, *, has_strings: bool) -> None:
    """Raises ConstraintTrouble over MAX_DEPTH. `has_strings`: brackets inside quotes do not count."""
    depth = 0
    quote = ""
    is_escaped = False
    for character in source:
        if is_escaped:
            is_escaped = False
        elif character == "\\":
            is_escaped = True
        elif quote:
            quote = "" if character in (quote, "\n") else quote
        elif has_strings and character in _QUOTES:
            quote = character
        elif character in _OPEN:
            depth += 1
            if depth > MAX_DEPTH:
                raise ConstraintTrouble(f"is nested deeper than {MAX_DEPTH} levels")
        elif character in _CLOSE:
            depth = max(0, depth - 1)
