"""An engine reduced to what is timed: a decoder over pages, greedy, with recorded decode steps. No queue, no wire.

Contexts are numbered, and each has its pages from the beginning. From a bare checkout.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from common.core.ids import PageId, TokenId
from common.core.step import StepRow
from common.engine.buckets import Buckets
from common.engine.decode_graphs import DecodeGraphs, Record
from common.engine.inputs import ragged_tokens
from common.engine.sampler import draw_tokens
from common.model.decoder import Decoder
from tests.gpu.rows import contexts, step_row, storage_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Tokens first to end of a context's prompt."""

    context: int
    first: int
    end: int


class Engine:
    """Writer: one thread. `lengths` are the tokens of each context that are stored, `drawn` what follows them.

    `max_lengths`: tokens that each context has pages for. With `record`, decode steps of up to `num_recorded` rows are
    recorded; None: of as many as there are contexts.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        max_lengths: Sequence[int],
        record: Record | None = None,
        num_recorded: int | None = None,
    ) -> None:
        dtype = str(decoder.dtype).removeprefix("torch.")
        self._decoder = decoder
        self._tables: list[list[PageId]] = contexts(list(max_lengths))
        self._storage = storage_for(decoder.spec, dtype, sum(map(len, self._tables)), decoder.device)
        self._graphs = None
        self.lengths = [0] * len(max_lengths)
        self.drawn = [TokenId(0)] * len(max_lengths)
        scratch = self._storage.scratch
        if record is not None and scratch is not None:
            buckets = Buckets(sizes=(num_recorded or len(max_lengths),))
            self._graphs = DecodeGraphs(
                decoder, self._storage.kv_PL2HSD, scratch=scratch, buckets=buckets, record=record
            )

    def extend(self, spans: Sequence[Span], decoding: Sequence[int] = ()) -> list[TokenId]:
        """Prompt tokens of some contexts and, in the same step, one more token each of others. A token per row."""
        rows = self._single_rows(decoding)
        rows += [
            step_row(span.context, span.first, span.end - span.first, self._tables[span.context]) for span in spans
        ]
        kv = self._storage.kv_PL2HSD
        logits_RV = self._decoder.forward(ragged_tokens(rows, kv), kv)
        for span in spans:
            self.lengths[span.context] = span.end
        for place in decoding:
            self.lengths[place] += 1
        return self._draw(logits_RV, rows, [*decoding, *(span.context for span in spans)])

    def decode(self, places: Sequence[int]) -> list[TokenId]:
        """One more token of each; recorded where it was."""
        rows = self._single_rows(places)
        logits_RV = None if self._graphs is None else self._graphs.forward(rows)
        if logits_RV is None:
            return self.extend((), places)
        for place in places:
            self.lengths[place] += 1
        return self._draw(logits_RV, rows, places)

    def _single_rows(self, places: Sequence[int]) -> list[StepRow]:
        own = (step_row(place, self.lengths[place], 1, self._tables[place]) for place in places)
        return [replace(row, tokens=(self.drawn[place],)) for row, place in zip(own, places, strict=True)]

    def _draw(self, logits_RV: Tensor, rows: Sequence[StepRow], places: Sequence[int]) -> list[TokenId]:
        """This waits for the device, as an engine's step does."""
        drawn = draw_tokens(logits_RV, [row.samples[0] for row in rows])
        for place, token in zip(places, drawn, strict=True):
            self.drawn[place] = token
        return drawn


def finish(device: torch.device) -> None:
    """Everything that was launched is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
