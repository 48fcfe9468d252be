"""Finds the longest of many spellings at every place of a text, in time that hardly depends on how many they are.

Python tries the branches of a pattern one after the other, and holds every other thread up meanwhile: a vocabulary to
which ten thousand words were added would cost a megabyte of text 40 seconds. So what begins alike is one branch.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

NOTHING = "(?!)"


def finder(spellings: Iterable[str]) -> re.Pattern[str]:
    """The longest wins where one begins another."""
    ordered = sorted({spelling for spelling in spellings if spelling})
    try:
        return re.compile(_branches(ordered) or NOTHING)
    except RecursionError:  # hundreds that each begin the next
        ordered.sort(key=len, reverse=True)
        return re.compile("|".join(map(re.escape, ordered)))


def _branches(tails: Sequence[str]) -> str:
    """One part of a pattern: sorted ends of spellings that have begun alike. An empty one may end here."""
    groups = [list(group) for _first, group in groupby((tail for tail in tails if tail), key=lambda tail: tail[0])]
    branches = "|".join(map(_branch, groups))
    if branches and not tails[0]:
        return f"(?:{branches})?"
    return f"(?:{branches})" if len(groups) > 1 else branches


def _branch(tails: Sequence[str]) -> str:
    """Of ends that begin with the same character."""
    first, last = tails[0], tails[-1]  # they are sorted: what these share, all share
    size = next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return re.escape(first[:size]) + _branches([tail[size:] for tail in tails])
