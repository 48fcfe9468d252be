"""What a forward's logits say to each row of a step: drawn tokens, and log probabilities where they are wanted.

Legend: R logits rows, in the order of the step's rows: a row's targets first, then the end that it draws from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from common.core.ids import TokenId
from common.core.logprobs import TokenLogprobs
from common.core.step import Sample, StepRow
from common.engine.sampler import draw_tokens
from common.engine.scoring import score_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTold:
    """What one row gave. It read the logits [first, end)."""

    first: int = 0
    end: int = 0
    drawn: tuple[TokenId, ...] = ()
    logprobs: tuple[TokenLogprobs | None, ...] = ()
    """One for each drawn token, or empty where nobody asked."""
    scores: tuple[TokenLogprobs, ...] = ()


SILENCE = RowTold()


def read_logits(logits_RV: Tensor, rows: Sequence[StepRow]) -> list[RowTold]:
    """One answer per row. Rows do not depend on each other."""
    told = _draw(logits_RV, rows)
    places: list[int] = []
    tokens: list[TokenId] = []
    num_top: list[int] = []
    for row, own in zip(rows, told, strict=True):
        places += range(own.first, own.first + len(row.targets))
        tokens += row.targets
        num_top += [row.num_top] * len(row.targets)
        if _tells(row):
            places += [own.end - 1] * len(own.drawn)
            tokens += own.drawn
            num_top += [sample.sampling.logprobs or 0 for sample in row.samples]
    if not places:
        return told
    scores = iter(score_tokens(logits_RV[places], tokens, num_top))
    return [_with_scores(row, own, scores) for row, own in zip(rows, told, strict=True)]


def _draw(logits_RV: Tensor, rows: Sequence[StepRow]) -> list[RowTold]:
    ends: list[int] = []
    samples: list[Sample] = []
    end = 0
    for row in rows:
        end += len(row.targets) + bool(row.samples)
        ends.append(end)
        samples += row.samples
    wanted = [end - 1 for row, end in zip(rows, ends, strict=True) for _ in row.samples]
    is_each_once = wanted == list(range(logits_RV.shape[0]))  # the usual step: nothing to copy
    drawn = iter(draw_tokens(logits_RV if is_each_once else logits_RV[wanted], samples) if samples else ())
    return [
        RowTold(
            first=end - len(row.targets) - bool(row.samples), end=end, drawn=tuple(next(drawn) for _ in row.samples)
        )
        for row, end in zip(rows, ends, strict=True)
    ]


def _tells(row: StepRow) -> bool:
    """All samples of a row are choices of one request, and share its sampling."""
    return bool(row.samples) and row.samples[0].sampling.logprobs is not None


def _with_scores(row: StepRow, own: RowTold, scores: Iterator[TokenLogprobs]) -> RowTold:
    targets = tuple(next(scores) for _ in row.targets)
    drawn = tuple(next(scores) for _ in own.drawn) if _tells(row) else ()
    return replace(own, scores=targets, logprobs=drawn) if targets or drawn else own
