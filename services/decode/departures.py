"""Sequences on their way to another decode worker: stopped between two steps, their pages kept for a fetch.

    ACTIVE, nothing pending but its last token --hand over--> KEPT --fetched, cancelled, late, lease over--> gone
    WAITING, or still reading                  --hand over--> gone: its tokens are all there is of it

What is kept is the context that ends before the last drawn token, its last page perhaps in part, and that token is the
finale's first one: exactly what prefill hands over after reading the same tokens. So whoever fetches needs to know of
no drain. The partial page travels whole: to compute it again would cost a step of reading, which is longer than a page.
"""

from common.core.ids import RequestId, SequenceId
from common.engine.batch import Batch
from common.engine.sequence import Sequence
from common.engine.telling import Teller
from common.kv.layout import PageLayout
from common.transfer.messages import Finale, FirstToken
from common.worker.loan import Loan
from common.worker.retention import PagesKept, Retention
from services.decode.counters import DecodeCounters
from services.decode.messages import Departed, DepartedChoice, RoleEvent
from services.decode.runner import Runner


class Departures:
    """Owner: the decode core. No step is ahead of what leaves. A stopped sequence leaves the batch at once: nothing
    here can step it again."""

    def __init__(
        self,
        *,
        batch: Batch,
        runner: Runner,
        retention: Retention,
        layout: PageLayout,
        teller: Teller[RoleEvent],
        counters: DecodeCounters,
    ) -> None:
        self._batch = batch
        self._runner = runner
        self._retention = retention
        self._layout = layout
        self._teller = teller
        self._counters = counters

    def hand_over(self, request: RequestId, attempt: int) -> int:
        """Stops every sequence of a request's attempts up to this one; how many there were. The rest is told."""
        if not self._runner.sequences_of(request, attempt):
            return 0
        self._runner.settle()  # perhaps its last token was being drawn
        leaving = [self._batch[each] for each in self._runner.sequences_of(request, attempt)]
        if not leaving:
            return 0
        choices = tuple(part for sequence in leaving for part in self._part(sequence))
        for sequence in leaving:
            self._runner.dismiss(sequence.id)
        self._teller.say(Departed(work=leaving[0].work, choices=choices))
        return len(leaving)

    def _part(self, sequence: Sequence) -> tuple[DepartedChoice, ...]:
        if not (sequence.is_decoding and sequence.pages):
            self._counters.handed_bare += len(sequence.choices)
            return tuple(
                DepartedChoice(choice=choice.index, num_tokens=sequence.num_output, kept=None)
                for choice in sequence.choices
            )
        choice, work = sequence.choices[0].index, sequence.work
        pages = sequence.pages[: self._layout.pages_for(sequence.num_computed)]
        finale = Finale(
            first_tokens=(FirstToken(choice=choice, token=sequence.tokens[-1]),),
            total_pages=len(pages),
            cached_tokens=sequence.num_computed,
        )
        kept = PagesKept(
            name=name_of(work.request, choice),
            work=work,
            context=tuple(sequence.tokens[:-1]),
            finale=finale,
            loan=Loan(pages),
        )
        self._retention.keep(kept)
        return (DepartedChoice(choice=choice, num_tokens=sequence.num_output, kept=kept),)


def name_of(request: RequestId, choice: int) -> RequestId:
    """What the ticket of one choice names."""
    return RequestId(str(SequenceId(request, choice)))
