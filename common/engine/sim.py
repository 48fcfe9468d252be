"""The honest simulated executor: no weights, but every token depends on every page byte.

A slot holds 16 bytes: a digest of the previous slot, read back through the page table, the token and its position. The
next token is a function of all slot bytes of the context, read back. A lost, stale, swapped or foreign page therefore
changes the text, and cluster tests without weights prove page correctness, not only message order.
"""

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import blake2b

from common.core.ids import PageId, SequenceId, TokenId
from common.core.step import Sample, Step, StepResult, StepRow
from common.kv.sim_storage import SLOT_BYTES, SimStorage


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSpeed:
    """How long a step would take, in seconds: fixed part, per new token, per token of context read."""

    step_s: float = 0.001
    new_token_s: float = 0.00002
    context_token_s: float = 0.0

    def step_seconds(self, step: Step) -> float:
        context = sum(row.end for row in step.rows)
        return self.step_s + self.new_token_s * step.num_tokens + self.context_token_s * context


class SimExecutor:
    """Executor over SimStorage. Rows that contain a `poison` token fail, as a crashing kernel would."""

    def __init__(
        self,
        storage: SimStorage,
        *,
        vocab_size: int = 512,
        max_context: int = 4096,
        speed: SimSpeed | None = None,
        poison: Collection[TokenId] = (),
    ) -> None:
        self.storage = storage
        self.vocab_size = vocab_size
        self.max_context = max_context
        self._speed = speed or SimSpeed()
        self._poison = frozenset(poison)

    def run(self, step: Step) -> StepResult:
        for copy in step.copies:
            self.storage.copy(copy.source, copy.destination)
        failed: list[SequenceId] = []
        drawn: list[tuple[TokenId, ...]] = []
        for row in step.rows:
            if self._poison.intersection(row.tokens):
                failed.append(row.sequence)
                drawn.append(())
                continue
            self._write(row)
            drawn.append(self._draw(row))
        return StepResult(drawn=tuple(drawn), seconds=self._speed.step_seconds(step), failed=tuple(failed))

    def _slot(self, pages: tuple[PageId, ...], position: int) -> memoryview:
        page, offset = divmod(position, self.storage.layout.page_size)
        return self.storage.page(pages[page])[offset * SLOT_BYTES : (offset + 1) * SLOT_BYTES]

    def _write(self, row: StepRow) -> None:
        previous = bytes(self._slot(row.pages, row.start - 1)) if row.start else bytes(SLOT_BYTES)
        for position, token in enumerate(row.tokens, start=row.start):
            facts = previous + position.to_bytes(8, "little") + token.to_bytes(8, "little")
            previous = blake2b(facts, digest_size=SLOT_BYTES).digest()
            self._slot(row.pages, position)[:] = previous

    def _draw(self, row: StepRow) -> tuple[TokenId, ...]:
        if not row.samples:
            return ()
        context = b"".join(bytes(self.storage.page(page)) for page in row.pages)[: row.end * SLOT_BYTES]
        return tuple(self._draw_one(context, sample) for sample in row.samples)

    def _draw_one(self, context: bytes, sample: Sample) -> TokenId:
        key = b"greedy"
        if not sample.sampling.is_greedy:
            key = (sample.seed % 2**64).to_bytes(8, "little") + sample.position.to_bytes(8, "little")
        number = int.from_bytes(blake2b(context, digest_size=8, key=key).digest(), "little")
        token = TokenId(number % self.vocab_size)
        while token in sample.banned:
            token = TokenId((token + 1) % self.vocab_size)
        return token
