"""Page tables of rows end to end, checked, as kernels read them."""

from array import array
from collections.abc import Sequence

import numpy as np
from torch import Tensor


def ragged_tables(
    tables: Sequence[Sequence[int]], starts: Sequence[int], counts: Sequence[int], kv_PL2KSD: Tensor
) -> "tuple[array[int], array[int]]":
    """Four numbers per row (first token, number of tokens, position of the first, first entry; int64), and the entries
    of all tables (int32), each cut to its context.

    Raises IndexError for a page that does not exist, or a table too short for its context.
    """
    num_pages, num_slots = kv_PL2KSD.shape[0], kv_PL2KSD.shape[4]
    entries = array("i")
    facts = array("q")
    first = 0
    for table, start, count in zip(tables, starts, counts, strict=True):
        num_columns = -(-(start + count) // num_slots)
        if len(table) < num_columns:
            raise IndexError(f"{len(table)} pages for a context of {start + count} tokens")
        facts.extend((first, count, start, len(entries)))
        entries.extend(table if len(table) == num_columns else table[:num_columns])
        first += count
    pages_X = np.frombuffer(entries, dtype=np.int32)
    if pages_X.min() < 0 or pages_X.max() >= num_pages:
        raise IndexError(f"pages {pages_X.min()} to {pages_X.max()} of {num_pages}")
    return facts, entries
