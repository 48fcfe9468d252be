"""What is wrong with a constraint."""

import re

MAX_CHARS = 200

_REASON = re.compile(r"^error: (.+)$", re.MULTILINE)
_ONE_OF = "oneOf constraints are not supported"
_PLACE = re.compile(r"^(at )?\d+\(\d+\): (failed to compile JSON schema: )?")


class ConstraintTrouble(Exception):
    """Cannot be compiled, or nothing satisfies it. `why` is a sentence for the client: no more than it sent itself."""

    def __init__(self, why: str) -> None:
        self.why = why[:MAX_CHARS]
        super().__init__(self.why)


def first_line(message: str) -> str:
    """An engine's message without its drawing of where the trouble is, and without its advice on what to turn on."""
    line = (message.strip().splitlines() or ["cannot be compiled"])[0]
    said = _PLACE.sub("", line).strip()
    if said.startswith(_ONE_OF):
        return "oneOf: more than one of its branches may hold: use anyOf, or require a property with a const of its own"
    reason = _REASON.search(message) if said.endswith(":") else None
    return f"{said} {reason[1]}" if reason else said.rstrip(":")
