"""What a forward's logits say to each row of a step: drawn tokens, and log probabilities where they are wanted.

Nothing here waits for a GPU until somebody asks what was said.

Legend: R logits rows, in the order of the step's rows: a row's targets first, then the end that it draws from. S draws,
N scored tokens, K likeliest of each.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from common.core.ids import TokenId
from common.core.logprobs import TokenLogprobs
from common.core.step import Sample, StepRow
from common.engine.host_copy import HostCopy, to_device
from common.engine.sampler import draw_ids
from common.engine.scoring import score_ids, told
from kernels.draws import Scores
from kernels.peaks import find_peaks


class RowTold(NamedTuple):
    """What one row gave. A tuple, as its place is: both are made for every row of every step."""

    drawn: tuple[TokenId, ...] = ()
    logprobs: tuple[TokenLogprobs | None, ...] = ()
    """One for each drawn token, or empty where nobody asked."""
    scores: tuple[TokenLogprobs, ...] = ()


SILENCE = RowTold()


class _Place(NamedTuple):
    """Where one row's numbers lie: logits [first, end), draws from `first_draw` on."""

    first: int
    end: int
    first_draw: int


class Reading:
    """The answers of one forward, on their way. Rows do not depend on each other."""

    def __init__(self, logits_RV: Tensor, rows: Sequence[StepRow]) -> None:
        self._rows = rows
        self._places = _places(rows)
        samples = [sample for row in rows for sample in row.samples]
        largest_R, is_finite_R = find_peaks(logits_RV)
        self.ids_S = _draw(logits_RV, largest_R, rows, self._places, samples)
        """Where the logits lie."""
        self._num_top: list[int] = []
        scores = self._score(logits_RV)
        parts = [is_finite_R, self.ids_S]
        if scores is not None:
            self._width = scores.likeliest_NK.shape[1]
            parts += [scores.logprobs_N, scores.ranks_N]
            parts += [scores.likeliest_NK.flatten(), scores.likeliest_logprobs_NK.flatten()]
        self._copy = HostCopy(parts)

    def draw_places(self) -> list[int | None]:
        """For every row, which of `ids_S` it drew first."""
        return [place.first_draw if row.samples else None for row, place in zip(self._rows, self._places, strict=True)]

    def told(self) -> list[RowTold | None]:
        """One answer per row, None where its logits are not finite. Waits; raises RuntimeError where the GPU failed."""
        is_finite_R, ids_S, *parts = self._copy.parts()
        is_finite, ids = is_finite_R.tolist(), ids_S.tolist()
        scores = iter(told(self._scores(parts), self._num_top)) if parts else iter(())
        # Every row's scores are taken from the iterator, in order, also those of a row that failed.
        answers = [self._told(row, place, ids, scores) for row, place in zip(self._rows, self._places, strict=True)]
        if all(is_finite):
            return [*answers]
        return [
            answer if all(is_finite[place.first : place.end]) else None
            for answer, place in zip(answers, self._places, strict=True)
        ]

    @staticmethod
    def _told(row: StepRow, place: _Place, ids: list[TokenId], scores: Iterator[TokenLogprobs]) -> RowTold:
        return RowTold(
            drawn=tuple(ids[place.first_draw : place.first_draw + len(row.samples)]),
            scores=tuple(next(scores) for _ in row.targets) if row.targets else (),
            logprobs=tuple(next(scores) for _ in row.samples) if _tells(row) else (),
        )

    def _score(self, logits_RV: Tensor) -> Scores | None:
        """Of every row its targets, then its draws, where they are asked for."""
        if not any(row.targets or _tells(row) for row in self._rows):
            return None
        places: list[int] = []
        tokens: list[TokenId] = []
        draws: list[int] = []
        for row, place in zip(self._rows, self._places, strict=True):
            places += range(place.first, place.first + len(row.targets))
            tokens += row.targets
            draws += [-1] * len(row.targets)
            self._num_top += [row.num_top] * len(row.targets)
            if _tells(row):
                places += [place.end - 1] * len(row.samples)
                tokens += [TokenId(0)] * len(row.samples)
                draws += range(place.first_draw, place.first_draw + len(row.samples))
                self._num_top += [sample.sampling.logprobs or 0 for sample in row.samples]
        places_N, tokens_N, draws_N = to_device(torch.tensor([places, tokens, draws]), logits_RV.device)
        if len(self.ids_S):
            tokens_N = torch.where(draws_N >= 0, self.ids_S.index_select(0, draws_N.clamp(min=0)), tokens_N)
        return score_ids(logits_RV.index_select(0, places_N), tokens_N, self._num_top)

    def _scores(self, parts: Sequence[Tensor]) -> Scores:
        logprobs_N, ranks_N, likeliest, likeliest_logprobs = parts
        shape = (len(logprobs_N), self._width)
        return Scores(
            logprobs_N=logprobs_N,
            ranks_N=ranks_N,
            likeliest_NK=likeliest.view(shape),
            likeliest_logprobs_NK=likeliest_logprobs.view(shape),
        )


def _places(rows: Sequence[StepRow]) -> list[_Place]:
    places: list[_Place] = []
    first = first_draw = 0
    for row in rows:
        end = first + len(row.targets) + bool(row.samples)
        places.append(_Place(first=first, end=end, first_draw=first_draw))
        first, first_draw = end, first_draw + len(row.samples)
    return places


def _draw(
    logits_RV: Tensor,
    largest_R: Tensor | None,
    rows: Sequence[StepRow],
    places: Sequence[_Place],
    samples: Sequence[Sample],
) -> Tensor:
    if not samples:
        return torch.empty(0, dtype=torch.int64, device=logits_RV.device)
    wanted = [place.end - 1 for row, place in zip(rows, places, strict=True) for _ in row.samples]
    if wanted != list(range(logits_RV.shape[0])):  # equal in the usual step: nothing to copy
        wanted_S = to_device(torch.tensor(wanted), logits_RV.device)
        logits_RV = logits_RV.index_select(0, wanted_S)
        largest_R = None if largest_R is None else largest_R.index_select(0, wanted_S)
    return draw_ids(logits_RV, samples, largest_R)


def _tells(row: StepRow) -> bool:
    """All samples of a row are choices of one request, and share its sampling."""
    return bool(row.samples) and row.samples[0].sampling.logprobs is not None
