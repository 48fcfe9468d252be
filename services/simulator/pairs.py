"""One policy against the better of two others, seed by seed: every policy saw the same arrivals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.simulator.report import Summary

FIGURES = ("ttft_s_mean", "ttft_s_p99", "itl_s_p99", "goodput_per_s", "served_share")
MORE_IS_BETTER = frozenset({"goodput_per_s", "served_share"})
T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""Student's t for 95 % with 1, 2, ... degrees of freedom; beyond the table, 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """The subject's figure over that of the better rival of each seed: mean and 95 % interval. Below 1 is better, but
    for what nobody has too much of."""

    figure: str
    num_seeds: int
    mean: float
    low: float
    high: float


def ratios(summaries: Sequence[Summary], subject: str, rivals: Sequence[str]) -> tuple[Ratio, ...]:
    """Over the seeds in which all of them were played; none where one is missing."""
    by_seed: dict[int, dict[str, Summary]] = {}
    for summary in summaries:
        by_seed.setdefault(summary.seed, {})[summary.policy] = summary
    whole = [each for each in by_seed.values() if {subject, *rivals} <= each.keys()]
    found = []
    for figure in FIGURES:
        better = max if figure in MORE_IS_BETTER else min
        pairs = [
            (getattr(each[subject], figure), better(getattr(each[name], figure) or 0.0 for name in rivals))
            for each in whole
        ]
        shares = [mine / theirs for mine, theirs in pairs if mine is not None and theirs]
        if shares:
            found.append(_ratio(figure, shares))
    return tuple(found)


def _ratio(figure: str, shares: Sequence[float]) -> Ratio:
    count = len(shares)
    mean = sum(shares) / count
    if count == 1:
        return Ratio(figure=figure, num_seeds=1, mean=mean, low=-math.inf, high=math.inf)
    spread = math.sqrt(sum((share - mean) ** 2 for share in shares) / (count - 1))
    t = T95[count - 2] if count - 2 < len(T95) else 2.0
    half = t * spread / math.sqrt(count)
    return Ratio(figure=figure, num_seeds=count, mean=mean, low=mean - half, high=mean + half)
