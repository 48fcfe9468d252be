"""Exports amid a step: pages whose first layers are done leave while the step computes the others."""

from collections.abc import Callable, Mapping

from common.core.ids import SequenceId
from common.core.request import RANK
from common.core.step import Step
from common.engine.batch import Batch
from services.prefill.gatherer import Gatherer
from services.prefill.prompt import PrefillCounters, Prompt


class EarlyExports:
    """Hears of layers on the step loop, inside a step or, on a GPU, inside its launch, which may come before the step
    before it is collected. Owner: the prefill core, whose `prompts` and batch it reads.

    It only ever gathers sooner what the core would gather after the step: what finds no staging now, what a step that
    was repeated row by row did not tell of, and pages that are not full wait for that. A row that fails afterwards
    fails its prompt, and with it what was shipped. Destinations that were never asked get whole pages.
    """

    def __init__(
        self, prompts: Mapping[SequenceId, Prompt], *, batch: Batch, gatherer: Gatherer, counters: PrefillCounters
    ) -> None:
        self._prompts = prompts
        self._batch = batch
        self._gatherer = gatherer
        self._counters = counters
        self.hasten: Callable[[], None] = _nobody_hurries
        """How to have what was gathered carried away before the step is over: set by whoever drives the turns."""

    def done(self, step: Step, num_layers: int) -> None:
        """The first `num_layers` layers of all rows have written their KV: see LayerNews."""
        found = [(row, self._prompts.get(row.sequence)) for row in step.rows]
        meant = [(row, prompt) for row, prompt in found if prompt is not None and _is_meant(prompt)]
        gathered = False
        for row, prompt in sorted(meant, key=lambda each: RANK[each[1].work.priority]):
            self._gatherer.plan_layers(prompt, computed=row.end, num_layers=num_layers)
            waiting = len(prompt.ready)
            gathered |= self._gatherer.gather(prompt, self._batch[row.sequence].pages)
            self._counters.early_runs += waiting - len(prompt.ready)
        if gathered:
            self.hasten()


def _is_meant(prompt: Prompt) -> bool:
    return prompt.destination is not None and prompt.destination.takes_layers


def _nobody_hurries() -> None:
    """Turns that are driven by hand tell of everything when they are over."""
