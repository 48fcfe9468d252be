"""Constraints of requests: what can be refused at once, and what the inspector says."""

from common.core.constraint import Constraint
from common.text.grammar.inspector import Inspector
from common.text.grammar.trouble import ConstraintTrouble
from services.router.asked import Asked
from services.router.validate import refusal

MAX_MARK_CHARS = 64


class Constraints:
    """Asked once per request, on the event loop, which it never holds up."""

    def __init__(self, inspector: Inspector, *, max_bytes: int) -> None:
        self._inspector = inspector
        self._max_bytes = max_bytes

    async def check(self, asked: Asked) -> Constraint | None:
        """What the workers will compile. Raises InvalidRequest; Refused or Unavailable where nobody could tell."""
        constraint = asked.constraint
        if constraint is None:
            return None
        field = f"constraint.{constraint.kind}"
        if asked.sampling.allowed_token_ids:
            raise refusal("sampling.allowed_token_ids", "cannot be combined with a constraint")
        if len(constraint.after) > MAX_MARK_CHARS:
            raise refusal("constraint.after", f"{len(constraint.after)} characters, at most {MAX_MARK_CHARS}")
        if constraint.num_bytes > self._max_bytes:
            raise refusal(field, f"{constraint.num_bytes} bytes, at most {self._max_bytes}")
        try:
            await self._inspector.check(constraint)
        except ConstraintTrouble as trouble:
            raise refusal(field, trouble.why) from trouble
        return constraint
