"""Seconds for a prefill, a decode step, a local extend and a transfer. Linear in what a step computes:

    step = step_s + extend_token_s * tokens + extend_pair_s * pairs + decode_row_s * rows + decode_context_s * context
    transfer = transfer_s + transfer_byte_s * bytes

Workers fit the coefficients from their own steps (fit.py). Every coefficient is finite and not negative.
"""

import math
from dataclasses import dataclass

from common.core.cost.work import StepWork, extend_pairs

MIN_CHUNK_TOKENS = 8
"""Tokens of a local prompt that join a step however late it is: what decode workers grant."""
MAX_BATCH = 1_000_000
"""As good as no limit."""


def spare_s(itl_s: float, alone_s: float) -> float:
    """What prompts may add to a step whose answers take `alone_s`: what is left of `itl_s`.

    From two thirds of it on this grows instead, up to as much as the answers take: a budget that they spend themselves
    is not saved by reading in crumbs. Each costs a read of all weights, and who waits to begin waits for minutes.
    """
    return max(itl_s - alone_s, min(alone_s, 2 * alone_s - itl_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalExtend:
    """A prompt read beside running answers. `seconds` until its first token; `step_s`: the longest gap between two
    tokens that the neighbours see meanwhile; `added_s`: by how much all this makes each neighbour's answer later."""

    seconds: float
    step_s: float
    added_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """One worker's costs, in seconds. `num_steps` it was fitted to (0: nobody's, the documented default); `age_s`
    since the last of them; `error`: how far predictions were off lately, relative to what was measured."""

    step_s: float
    extend_token_s: float
    extend_pair_s: float
    decode_row_s: float
    decode_context_s: float
    transfer_s: float
    transfer_byte_s: float
    num_steps: int = 0
    age_s: float = 0.0
    error: float = 0.0

    def __post_init__(self) -> None:
        for name in COEFFICIENTS:
            value = getattr(self, name)
            assert 0.0 <= value < math.inf, f"{name} is {value}"

    @property
    def is_default(self) -> bool:
        """Fitted to nothing."""
        return self.num_steps == 0

    def step_seconds(self, work: StepWork) -> float:
        """One step of any mixture."""
        return (
            self.step_s
            + self.extend_token_s * work.extend_tokens
            + self.extend_pair_s * work.extend_pairs
            + self.decode_row_s * work.decode_rows
            + self.decode_context_s * work.decode_context
        )

    def extend_seconds(self, new_tokens: int, cached_tokens: int = 0) -> float:
        """What a prompt's new tokens add to the steps that they join."""
        return self.extend_token_s * new_tokens + self.extend_pair_s * extend_pairs(new_tokens, cached_tokens)

    def prefill_seconds(
        self, new_tokens: int, cached_tokens: int = 0, *, chunk_tokens: int = 256, num_prompts: int = 1
    ) -> float:
        """A prompt read on a worker that decodes nothing, `chunk_tokens` a step. `num_prompts` of this kind share the
        steps: each of them then takes as long as all."""
        if new_tokens <= 0:
            return 0.0
        num_steps = -(-new_tokens // max(chunk_tokens, 1))
        return num_steps * self.step_s + num_prompts * self.extend_seconds(new_tokens, cached_tokens)

    def decode_step_seconds(self, batch: int, context_tokens: int) -> float:
        """A step in which `batch` sequences of `context_tokens` in total each get one token."""
        return self.step_s + self.decode_row_s * batch + self.decode_context_s * context_tokens

    def max_batch(self, itl_s: float, context_tokens_each: float) -> int:
        """Sequences of this length that a step of `itl_s` has room for; at least 1."""
        each = self.decode_row_s + self.decode_context_s * context_tokens_each
        if each <= 0.0:
            return MAX_BATCH
        return max(1, int(min(MAX_BATCH, max(0.0, itl_s - self.step_s) / each)))

    def chunk_tokens(self, *, itl_s: float, decode_step_s: float, most: int) -> int:
        """Tokens of local prompts that join a step in which answers alone take `decode_step_s`."""
        if self.extend_token_s <= 0.0:
            return most
        spare = spare_s(itl_s, decode_step_s) / self.extend_token_s  # infinite where a token costs next to nothing
        return int(min(most, max(MIN_CHUNK_TOKENS, spare)))

    def local_extend(
        self,
        new_tokens: int,
        cached_tokens: int = 0,
        *,
        batch: int,
        context_tokens: int,
        itl_s: float,
        chunk_tokens: int,
        idle_chunk_tokens: int,
    ) -> LocalExtend:
        """A prompt read on a worker where `batch` answers are being written, in chunks that respect `itl_s`."""
        extend_s = self.extend_seconds(new_tokens, cached_tokens)
        if new_tokens <= 0:
            return LocalExtend(seconds=0.0, step_s=0.0, added_s=0.0)
        if batch <= 0:
            chunk, beside_s = idle_chunk_tokens, self.step_s
        else:
            beside_s = self.decode_step_seconds(batch, context_tokens)
            chunk = self.chunk_tokens(itl_s=itl_s, decode_step_s=beside_s, most=chunk_tokens)
        num_steps = -(-new_tokens // max(chunk, 1))
        return LocalExtend(
            seconds=num_steps * beside_s + extend_s, step_s=beside_s + extend_s / num_steps, added_s=extend_s
        )

    def transfer_seconds(self, num_bytes: int) -> float:
        """From the last computed page to the first step on the other worker. No bytes: only the hand-over."""
        return self.transfer_s + self.transfer_byte_s * num_bytes


STEP_COEFFICIENTS = ("step_s", "extend_token_s", "extend_pair_s", "decode_row_s", "decode_context_s")
TRANSFER_COEFFICIENTS = ("transfer_s", "transfer_byte_s")
COEFFICIENTS = (*STEP_COEFFICIENTS, *TRANSFER_COEFFICIENTS)

DEFAULT = CostModel(
    step_s=2e-3,
    extend_token_s=2e-4,
    extend_pair_s=5e-8,
    decode_row_s=1e-3,
    decode_context_s=5e-7,
    transfer_s=5e-3,
    transfer_byte_s=1e-9,
)
"""Orders of magnitude of the demo model on two CPU cores and a loopback link. Decisions compare costs, so it is the
proportions that count where nothing has been measured yet."""
