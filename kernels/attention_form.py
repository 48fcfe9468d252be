"""What a model family asks of attention beyond the plain formula. One value per layer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionForm:
    """A query at position p, scored against the key at position n <= p:

        score = softcap * tanh(q k scale / softcap)      without a softcap: q k scale

    `window`: only the last `window` keys are seen, n > p - window. Most families: scale = 1 / sqrt(head dim).
    """

    scale: float
    window: int | None = None
    softcap: float | None = None

    def first_key(self, position: int) -> int:
        """The oldest position that a query at `position` sees."""
        return 0 if self.window is None else max(0, position - self.window + 1)
