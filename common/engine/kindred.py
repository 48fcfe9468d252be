"""Prompts that begin alike are read once: who comes second begins when it finds what the first one computes.

first    |== read ==|-- its next page --|------------- to come -------------|
second   |== same ==|------ same -------|- same -|...                          waits, as long as that page is the same
"""

from collections.abc import Iterable

from common.engine.plan import RANK
from common.engine.sequence import Sequence


def is_kin_read(sequence: Sequence, readers: Iterable[Sequence], page_size: int) -> bool:
    """Whether one of `readers` is computing the page that `sequence`, which has not begun, would compute first.

    Nobody waits for a lower class. A prompt whose log probabilities are wanted is read whole, whoever reads beside it.
    """
    if sequence.wants_scores:
        return False
    rank, usable = RANK[sequence.work.priority], (len(sequence.tokens) - 1) // page_size
    for reader in readers:
        page = reader.num_computed // page_size
        hashes = reader.chain.hashes
        if (
            page < min(len(hashes), usable)
            and hashes[page] == sequence.chain.hashes[page]
            and not reader.is_read
            and not reader.wants_scores
            and RANK[reader.work.priority] <= rank
        ):
            return True
    return False
