"""What one step had to compute, as the numbers that its duration depends on."""

from dataclasses import dataclass

from common.core.step import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """`extend_pairs`: (new token, token it attends to) of all extending rows; `decode_context`: tokens that decoding
    rows read. Zero everywhere: no step."""

    extend_tokens: int = 0
    extend_pairs: int = 0
    decode_rows: int = 0
    decode_context: int = 0

    @property
    def is_extending(self) -> bool:
        return self.extend_tokens > 0

    @classmethod
    def of(cls, step: Step) -> "StepWork":
        """A row of one token is a decode, whatever it was planned as: it costs the same."""
        tokens = pairs = rows = context = 0
        for row in step.rows:
            if (new := len(row.tokens)) == 1:
                rows += 1
                context += row.end
            else:
                tokens += new
                pairs += extend_pairs(new, row.start)
        return cls(extend_tokens=tokens, extend_pairs=pairs, decode_rows=rows, decode_context=context)


def extend_pairs(new_tokens: int, cached_tokens: int) -> int:
    """Pairs of a new token and a token at or before it, `cached_tokens` lying before all of them."""
    return new_tokens * cached_tokens + new_tokens * (new_tokens + 1) // 2
