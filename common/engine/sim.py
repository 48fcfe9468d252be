"""The honest simulated executor: no weights, but every token depends on every page byte.

A slot holds 16 bytes: a digest of the previous slot, read back through the page table, the token and its position. The
next token is a function of all slot bytes of the context, read back. A lost, stale, swapped or foreign page therefore
changes the text, and cluster tests without weights prove page correctness, not only message order.

There are no logits to shape. Constraints, bans and allowed ids are obeyed; biases, and the counts that penalties go by,
are part of what the next token is a function of. Log probabilities are numbers that depend on the same page bytes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from common.core.ids import PageId, SequenceId, TokenId
from common.core.logprobs import TokenLogprobs
from common.core.step import Sample, Step, StepResult, StepRow
from common.engine.layer_news import LayerNews
from common.kv.sim_layout import SLOT_BYTES
from common.kv.sim_storage import SimStorage
from common.model.stops import Stops


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
        news: LayerNews | None = None,
    ) -> None:
        self.storage = storage
        self.vocab_size = vocab_size
        self.max_context = max_context
        self._speed = speed or SimSpeed()
        self._poison = frozenset(poison)
        self.news = news

    def run(self, step: Step) -> StepResult:
        for copy in step.copies:
            self.storage.copy(copy.source, copy.destination)
        failed: list[SequenceId] = []
        drawn: list[tuple[TokenId, ...]] = []
        logprobs: list[tuple[TokenLogprobs | None, ...]] = []
        scores: list[tuple[TokenLogprobs, ...]] = []
        for row in step.rows:
            is_poison = bool(self._poison.intersection(row.tokens))
            if is_poison:
                failed.append(row.sequence)
            else:
                self._write(row)
            drawn.append(() if is_poison else self._draw(row))
            logprobs.append(() if is_poison else self._judge(row, drawn[-1]))
            scores.append(() if is_poison else self._score(row))
        if self.news is not None and (stops := self.news.stops(step)) is not None:
            self._tell_layers(step, stops)
        return StepResult(
            drawn=tuple(drawn),
            seconds=self._speed.step_seconds(step),
            failed=tuple(failed),
            logprobs=tuple(logprobs) if any(logprobs) else (),
            scores=tuple(scores) if any(scores) else (),
        )

    def _slot(self, pages: tuple[PageId, ...], position: int) -> memoryview:
        page, offset = divmod(position, self.storage.layout.page_size)
        return self.storage.page(pages[page])[offset * SLOT_BYTES : (offset + 1) * SLOT_BYTES]

    def _write(self, row: StepRow) -> None:
        previous = bytes(self._slot(row.pages, row.start - 1)) if row.start else bytes(SLOT_BYTES)
        for position, token in enumerate(row.tokens, start=row.start):
            facts = previous + position.to_bytes(8, "little") + token.to_bytes(8, "little")
            previous = blake2b(facts, digest_size=SLOT_BYTES).digest()
            self._slot(row.pages, position)[:] = previous

    def _tell_layers(self, step: Step, stops: Stops) -> None:
        """What was written comes to light group by group: whoever copies a layer before its word copies zeros."""
        layout = self.storage.layout
        pages = {page for row in step.rows for page in row.pages[row.start // layout.page_size :]}
        whole = {page: bytes(self.storage.page(page)) for page in pages}
        for page in pages:
            self.storage.zero(page)
        size = layout.page_bytes // layout.num_layers * stops.num_layers
        for number, first in enumerate(range(0, layout.page_bytes, size), start=1):
            for page, content in whole.items():
                self.storage.page(page)[first : first + size] = content[first : first + size]
            stops.say(number * stops.num_layers)

    def _draw(self, row: StepRow) -> tuple[TokenId, ...]:
        if not row.samples:
            return ()
        context = b"".join(bytes(self.storage.page(page)) for page in row.pages)[: row.end * SLOT_BYTES]
        return tuple(self._draw_one(context, sample) for sample in row.samples)

    def _draw_one(self, context: bytes, sample: Sample) -> TokenId:
        key = b"greedy"
        if not sample.sampling.is_greedy:
            key = (sample.seed % 2**64).to_bytes(8, "little") + sample.position.to_bytes(8, "little")
        choices: Sequence[int] = range(self.vocab_size)
        if (shaping := sample.shaping) is not None:
            choices = sorted(shaping.allowed) or choices
            facts = (shaping.biased, shaping.biases, shaping.seen, shaping.counts)
            context += b"".join(part.tobytes() for part in facts)
        number = int.from_bytes(blake2b(context, digest_size=8, key=key).digest(), "little") % len(choices)
        if sample.mask:
            choices = [token for token in choices if sample.mask[token // 8] >> token % 8 & 1]
            number %= len(choices)
        while choices[number] in sample.banned:
            number = (number + 1) % len(choices)
        return TokenId(choices[number])

    def _judge(self, row: StepRow, drawn: tuple[TokenId, ...]) -> tuple[TokenLogprobs | None, ...]:
        """Log probabilities of what a row drew, where its request asked."""
        if not row.samples or row.samples[0].sampling.logprobs is None:
            return ()
        num_top = row.samples[0].sampling.logprobs
        return tuple(self._logprobs(row, row.end - 1, token, num_top) for token in drawn)

    def _score(self, row: StepRow) -> tuple[TokenLogprobs, ...]:
        targets = enumerate(row.targets, start=row.start)
        return tuple(self._logprobs(row, position, token, row.num_top) for position, token in targets)

    def _logprobs(self, row: StepRow, position: int, token: TokenId, num_top: int) -> TokenLogprobs:
        """From the slot at `position`, which depends on all before it. Sixteenths, so that every float holds them."""
        slot = bytes(self._slot(row.pages, position))
        digest = blake2b(slot + token.to_bytes(8, "little"), digest_size=32).digest()
        first = int.from_bytes(digest[:8], "little")
        return TokenLogprobs(
            logprob=-(first % 256) / 16,
            rank=1 + first % self.vocab_size,
            top_ids=tuple(TokenId((first + place) % self.vocab_size) for place in range(num_top)),
            top_logprobs=tuple(-(digest[8] + place) / 16 for place in range(num_top)),
        )
