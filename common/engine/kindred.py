"""Prompts that begin alike are read once: who comes second begins when it finds what the first one computes.

first    |== read ==|-- its next page --|------------- to come -------------|
second   |== same ==|------ same -------|- same -|...                          waits, as long as that page is the same
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Protocol

from common.core.request import RANK, Priority


class Kin(Protocol):
    """What is looked at: a worker's sequence, or a context of the simulator."""

    @property
    def page_names(self) -> Sequence[Hashable]:
        """Of its full pages, from the first on; equal where everything up to that page is."""

    @property
    def num_tokens(self) -> int: ...
    @property
    def num_computed(self) -> int: ...
    @property
    def is_read(self) -> bool: ...
    @property
    def wants_scores(self) -> bool: ...
    @property
    def priority(self) -> Priority: ...


def shared_pages(names: Sequence[Hashable], others: Iterable[Sequence[Hashable]]) -> int:
    """Leading pages that one of the others has as well."""
    return max((_num_alike(names, other) for other in others), default=0)


def is_mostly_coming(names: Sequence[Hashable], num_found: int, coming: Iterable[Sequence[Hashable]]) -> bool:
    """Whether most pages that are missing behind the `num_found` first ones are on their way here for another prompt.
    For less nobody waits: whoever sends them may be slow, or gone."""
    num_coming = shared_pages(names, coming) - num_found
    return num_coming > 0 and 2 * num_coming >= len(names) - num_found


def _num_alike(names: Sequence[Hashable], others: Sequence[Hashable]) -> int:
    """By halves: where a page is the same, all before it are."""
    low, high = 0, min(len(names), len(others))
    while low < high:
        middle = (low + high) // 2
        if names[middle] == others[middle]:
            low = middle + 1
        else:
            high = middle
    return low


def is_kin_read(kin: Kin, readers: Iterable[Kin], page_size: int) -> bool:
    """Whether one of `readers` is computing the page that `kin`, which has not begun, would compute first.

    Nobody waits for a lower class. A prompt whose log probabilities are wanted is read whole, whoever reads beside it.
    """
    if kin.wants_scores:
        return False
    names, rank = kin.page_names, RANK[kin.priority]
    usable = min(len(names), (kin.num_tokens - 1) // page_size)
    for reader in readers:
        page, read = reader.num_computed // page_size, reader.page_names
        if (
            page < min(len(read), usable)
            and read[page] == names[page]
            and not reader.is_read
            and not reader.wants_scores
            and RANK[reader.priority] <= rank
        ):
            return True
    return False
