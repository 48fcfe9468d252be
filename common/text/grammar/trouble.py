"""What is wrong with a constraint."""

import re

MAX_CHARS = 200

_PLACE = re.compile(r"^(at )?\d+\(\d+\): (failed to compile JSON schema: )?")


class ConstraintTrouble(Exception):
    """Cannot be compiled, or nothing satisfies it. `why` is a sentence for the client: no more than it sent itself."""

    def __init__(self, why: str) -> None:
        self.why = why[:MAX_CHARS]
        super().__init__(self.why)


def first_line(message: str) -> str:
    """An engine's message without its drawing of where the trouble is."""
    line = (message.strip().splitlines() or ["cannot be compiled"])[0]
    return _PLACE.sub("", line).strip().rstrip(":")
