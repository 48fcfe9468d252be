"""The executor with weights: one ragged forward per step, and the sampler. It launches steps by itself: see flight.py.

The tokens of a row depend on that row alone, bit for bit on the CPU: a forward computes every row by operators that
keep this promise (kernels says in which types), and noise is keyed by (seed, position).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.core.clock import Clock
from common.core.step import Step, StepResult, StepRow
from common.engine.decode_graphs import DecodeGraphs
from common.engine.device import finish_on, use_device
from common.engine.following import Draws, Following, following
from common.engine.inputs import in_forward_order, ragged_tokens
from common.engine.layer_news import LayerNews
from common.engine.reading import SILENCE, Reading, RowTold
from common.kv.page_streams import Mark
from common.kv.torch_storage import TorchStorage
from common.model.decoder import Decoder
from common.model.stops import Stops
from common.observe.logging import get_log
from kernels.quantized_pages import is_quantized
from kernels.threads import use_threads

ROW_ERRORS = (RuntimeError, IndexError, ValueError)
"""What torch raises for a row that cannot be computed."""

_log = get_log("engine")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """One forward of a step: its reading, and which of the step's rows it read, in the reading's order."""

    places: Sequence[int]
    reading: Reading


class TorchExecutor:
    """Executor over a decoder and the tensor that holds its pages. Writer of both: the step loop's thread.

    `graphs` replay the decode steps that they can; on a GPU alone. `news` is told of the layers of other steps.
    """

    def __init__(
        self,
        decoder: Decoder,
        storage: TorchStorage,
        *,
        clock: Clock,
        num_threads: int | None = None,
        graphs: DecodeGraphs | None = None,
        news: LayerNews | None = None,
    ) -> None:
        assert storage.kv_PL2HSD.dtype is decoder.dtype or is_quantized(storage.kv_PL2HSD), (
            f"pages of {storage.layout.dtype} for a {decoder.dtype} model"
        )
        self.storage = storage
        self.vocab_size = decoder.spec.vocab_size
        self.max_context = decoder.max_context
        self._decoder = decoder
        self._clock = clock
        self._graphs = graphs
        self.news = news
        self._last: Draws | None = None
        self._finished = 0.0
        use_threads(num_threads)

    def run(self, step: Step) -> StepResult:
        """See Executor."""
        return self.launch(step).collect()

    def launch(self, step: Step) -> "TorchFlight":
        """See Launcher: on a GPU this returns before the step is done, and hardly waits for the one before.

        A forward that fails is repeated row by row: the row that fails alone is the poison.
        """
        began = self._clock.monotonic()
        use_device(self.storage.device)
        streams = self.storage.streams
        streams.begin_step()
        with torch.inference_mode():
            for copy in step.copies:
                self.storage.copy(copy.source, copy.destination)
            stops = self._stops(step)
            parts = self._read_together(list(range(len(step.rows))), step.rows, stops) if step.rows else []
            self._last = _draws(parts, len(step.rows), self.storage.device)
            if stops is not None:
                streams.reach()  # what found no staging until now is gathered behind all of the step, repeats included
        return TorchFlight(self, step=step, parts=parts, began=began, end=streams.end_step())

    def _stops(self, step: Step) -> Stops | None:
        """Before layers are told of, pages may be gathered as far as they were launched."""
        stops = None if self.news is None else self.news.stops(step)
        if stops is None:
            return None
        say, reach = stops.say, self.storage.streams.reach

        def reached(num_layers: int) -> None:
            reach()
            say(num_layers)

        return Stops(num_layers=stops.num_layers, say=reached)

    def finish(self, began: float) -> float:
        """Seconds of a step that was launched at `began` and is done now: those that it had the device for itself."""
        now, since = self._clock.monotonic(), max(began, self._finished)
        self._finished = now
        return now - since

    def _read_together(self, places: Sequence[int], rows: Sequence[StepRow], stops: Stops | None = None) -> list[_Part]:
        """What is read of the rows at `places`, by one forward or by several. A row that fails is in no part.

        Only the first forward keeps its `stops`: the others know of single rows alone, and layers are told of once.
        """
        own = [rows[place] for place in places]
        try:
            order = in_forward_order(own)
            reading = self._read([own[index] for index in order], stops)
            return [_Part(places=[places[index] for index in order], reading=reading)]
        except ROW_ERRORS as error:
            finish_on(self.storage.device)  # Where the GPU itself failed no row is to blame, and this raises.
            if len(own) == 1:
                _log.error("row_failed", sequence=str(own[0].sequence), error=str(error))
                return []
            _log.warning("forward_failed", rows=len(own), error=str(error))
        return [part for place in places for part in self._read_together([place], rows)]

    def _read(self, rows: Sequence[StepRow], stops: Stops | None) -> Reading:
        """One forward over rows in its order. Raises one of ROW_ERRORS when some row cannot be computed."""
        follow = following(rows, self._last, vocab_size=self.vocab_size)
        return Reading(self._forward(rows, follow, stops), rows)

    def _forward(self, rows: Sequence[StepRow], follow: Following | None, stops: Stops | None) -> Tensor:
        """logits_RV of rows in forward order."""
        logits_RV = None if self._graphs is None else self._graphs.forward(rows, follow)
        if logits_RV is not None:
            return logits_RV
        kv_PL2KSD = self.storage.kv_PL2HSD
        return self._decoder.forward(ragged_tokens(rows, kv_PL2KSD, follow), kv_PL2KSD, stops)


@dataclass(frozen=True, slots=True, eq=False)
class TorchFlight:
    """Flight: what was read of a step, on its way to the host."""

    executor: TorchExecutor
    step: Step
    parts: Sequence[_Part]
    began: float
    end: Mark

    def collect(self) -> StepResult:
        """Wait for this step alone. Raises RuntimeError where the GPU itself failed: it computes nothing more."""
        told: list[RowTold | None] = [None] * len(self.step.rows)
        for part in self.parts:
            for place, own in zip(part.places, part.reading.told(), strict=True):
                told[place] = own
                if own is None:
                    sequence = str(self.step.rows[place].sequence)
                    _log.error("row_failed", sequence=sequence, error="logits are not finite")
        self.executor.storage.streams.settle(self.end)
        failed = tuple(row.sequence for row, own in zip(self.step.rows, told, strict=True) if own is None)
        said = [own or SILENCE for own in told]
        return StepResult(
            drawn=tuple(own.drawn for own in said),
            seconds=self.executor.finish(self.began),
            failed=failed,
            logprobs=tuple(own.logprobs for own in said) if any(own.logprobs for own in said) else (),
            scores=tuple(own.scores for own in said) if any(own.scores for own in said) else (),
        )


def _draws(parts: Sequence[_Part], num_rows: int, device: torch.device) -> Draws:
    """What all parts of a step drew, by row."""
    places: list[int | None] = [None] * num_rows
    first = 0
    for part in parts:
        for row, place in zip(part.places, part.reading.draw_places(), strict=True):
            places[row] = None if place is None else first + place
        first += len(part.reading.ids_S)
    ids = [part.reading.ids_S for part in parts if len(part.reading.ids_S)]
    ids = ids or [torch.zeros(1, dtype=torch.int64, device=device)]
    return Draws(ids_S=ids[0] if len(ids) == 1 else torch.cat(ids), places=places)
