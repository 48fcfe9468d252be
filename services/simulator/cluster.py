"""What is simulated: how many machines of which role, their caches and speeds."""

from dataclasses import dataclass

from common.core.cost.model import CostModel
from common.core.ids import Epoch, WorkerId, WorkerRef
from common.core.worker import Role

REFERENCE = CostModel(
    step_s=5e-3,
    extend_token_s=4e-5,
    extend_pair_s=1.3e-9,
    decode_row_s=4e-5,
    decode_context_s=4e-8,
    transfer_s=2e-3,
    transfer_byte_s=2e-11,
    num_steps=1_000_000,
)
"""Derived: 8 billion bf16 parameters on one accelerator of 3.35 TB/s and 400 TFLOP/s reached, 32 layers of 4096 with 8
KV heads (128 KiB a token), a link of 50 GB/s. For questions about proportions; `baton calibrate` measures your own."""

REFERENCE_TOKEN_BYTES = 131_072


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterShape:
    """`prefill` machines read prompts, `decode` machines write answers, and read short prompts; `dual` ones do both for
    themselves and for each other. `cache_tokens` is what each of them holds; `token_bytes` of KV travel per token.

    A prefill step computes at most `step_tokens`, of one prompt `chunk_tokens`; local prompts join decode steps with at
    most `extend_tokens`, as far as `itl_budget_s` allows. Clients ask for at most `answer_limit` tokens, or as many as
    they get. `can_fetch`: machines fetch cached pages from each other. A call between two processes takes `hop_s`, and
    comes `call_s` after the one before it; a worker takes `turn_s` between two steps, and pages of another machine may
    be adopted `land_s` after their transfer. `prefill_cost`, `prefill_turn_s` None: prefill machines are as the others.
    """

    prefill: int = 0
    decode: int = 0
    dual: int = 0
    cache_tokens: int = 1_000_000
    token_bytes: int = REFERENCE_TOKEN_BYTES
    cost: CostModel = REFERENCE
    prefill_cost: CostModel | None = None
    step_tokens: int = 2048
    chunk_tokens: int = 2048
    extend_tokens: int = 2048
    itl_budget_s: float = 0.05
    max_sequences: int = 256
    answer_limit: int = 1024
    can_fetch: bool = True
    hop_s: float = 5e-4
    call_s: float = 0.0
    turn_s: float = 0.0
    prefill_turn_s: float | None = None
    land_s: float = 0.0

    @property
    def reading_cost(self) -> CostModel:
        """Of prefill machines."""
        return self.prefill_cost or self.cost

    @property
    def reading_turn_s(self) -> float:
        """Of prefill machines."""
        return self.turn_s if self.prefill_turn_s is None else self.prefill_turn_s

    @property
    def can_write(self) -> bool:
        """Whether anybody writes answers."""
        return bool(self.decode or self.dual)

    @property
    def can_part(self) -> bool:
        """Whether a prompt may be read elsewhere than its answer is written. A single dual machine has nobody."""
        return (self.prefill, self.decode, self.dual) != (0, 0, 1)

    def limit_tokens(self, output_tokens: int) -> int:
        """What the client of an answer this long asked for at most."""
        return max(output_tokens, self.answer_limit)

    def roles(self) -> tuple[tuple[WorkerRef, Role, bool], ...]:
        """Every machine's name and role, and whether it is a dual one, by name."""
        named = [(f"prefill-{index:02d}", Role.PREFILL, False) for index in range(self.prefill)]
        named += [(f"decode-{index:02d}", Role.DECODE, False) for index in range(self.decode)]
        named += [(f"worker-{index:02d}", Role.DECODE, True) for index in range(self.dual)]
        return tuple(
            (WorkerRef(WorkerId(name), Epoch(1), f"{name}:1"), role, is_dual) for name, role, is_dual in sorted(named)
        )
