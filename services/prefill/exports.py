"""The way out of a prefill worker: first tokens at once, pages run by run, and then the prompt is forgotten.

begun -- chunks: runs become ready, and are gathered while there is staging --+
  +-- drawn: FINISHED AT ONCE | KEPT for a fetch | finale, with the last run -+--> drained: forgotten
  '-- dropped: what was shipped is void --> forgotten
"""

from collections.abc import Sequence

from common.core.ids import SequenceId
from common.core.request import RANK
from common.engine.batch import Batch
from common.engine.outcome import Drawn
from common.engine.sequence import Sequence as Running
from common.engine.telling import Teller, prefill_done, tokens_emitted
from common.engine.turns import Given
from common.transfer.messages import Finale, FirstToken
from common.worker.loan import Loan
from common.worker.retention import PagesKept, Retention
from services.prefill.gatherer import Gatherer
from services.prefill.messages import ExportDropped, Exporting
from services.prefill.prompt import PrefillCounters, Prompt


class Exports:
    """Owner: the prefill core, whose `prompts` and batch it empties."""

    def __init__(
        self,
        prompts: dict[SequenceId, Prompt],
        *,
        batch: Batch,
        gatherer: Gatherer,
        retention: Retention,
        given: Given,
        teller: Teller[Exporting],
        counters: PrefillCounters,
    ) -> None:
        self._prompts = prompts
        self._batch = batch
        self._gatherer = gatherer
        self._retention = retention
        self._given = given
        self._teller = teller
        self._counters = counters

    @property
    def num_lent(self) -> int:
        """Buffers on their way to decode workers."""
        return self._gatherer.num_lent

    def emit(self, drawn: Sequence[Drawn]) -> None:
        """First tokens go to the router at once. A prompt whose every choice ended has nothing to export."""
        by_prompt: dict[SequenceId, list[Drawn]] = {}
        for draw in drawn:
            by_prompt.setdefault(draw.source, []).append(draw)
            self._counters.first_tokens += 1
            self._teller.tell(draw.work, tokens_emitted(draw))
        for source, draws in by_prompt.items():
            self._read(self._prompts[source], draws)

    def plan(self, prompt: Prompt) -> None:
        """Queue what became whole."""
        if prompt.destination is None:
            return
        self._gatherer.plan(prompt, computed=self._batch[prompt.sequence].num_computed)
        if prompt.is_drained:
            self._finish(prompt)

    def gather_ready(self) -> bool:
        """Copy ready runs into staging while there is some, in the order in which prompts are read. Never waits: what
        finds none stays queued."""
        gathered = False
        for prompt in sorted(self._prompts.values(), key=self._turn):
            gathered |= self._gatherer.gather(prompt, self._batch[prompt.sequence].pages)
            if prompt.is_drained:
                self._finish(prompt)
        return gathered

    def _turn(self, prompt: Prompt) -> tuple[int, int]:
        return RANK[prompt.work.priority], self._given.get(prompt.work.tenant, 0)

    def drop(self, prompt: Prompt, why: str) -> None:
        """It is over before its finale."""
        self._teller.say(ExportDropped(request=prompt.work.request, attempt=prompt.work.attempt, reason=why))
        self._forget(prompt)

    def _read(self, prompt: Prompt, draws: Sequence[Drawn]) -> None:
        work, sequence = prompt.work, self._batch[prompt.sequence]
        self._teller.tell(work, prefill_done(work, sequence.num_cached))
        if prompt.destination is not None and all(draw.finish is not None for draw in draws):
            self._counters.finished += 1
            self.drop(prompt, "finished at its first token")
        elif prompt.destination is None:
            # Whether the answer is over with its first token is for whoever fetches it to say.
            finale, loan = _finale(sequence, draws), Loan(sequence.pages)
            kept = PagesKept(name=work.request, work=work, context=work.context, finale=finale, loan=loan)
            self._retention.keep(kept)
            self._teller.say(kept)
            self._finish(prompt)
        else:
            prompt.finale = _finale(sequence, draws)

    def _finish(self, prompt: Prompt) -> None:
        self._counters.finished += 1
        self._forget(prompt)

    def _forget(self, prompt: Prompt) -> None:
        del self._prompts[prompt.sequence]
        self._batch.retire(prompt.sequence)


def _finale(sequence: Running, draws: Sequence[Drawn]) -> Finale:
    return Finale(
        first_tokens=tuple(
            FirstToken(choice=draw.choice.index, token=draw.token, logprobs=draw.logprobs) for draw in draws
        ),
        total_pages=len(sequence.pages),
        cached_tokens=sequence.num_cached,
        prompt_logprobs=tuple(sequence.prompt_scores),
    )
