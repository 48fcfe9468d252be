"""Where a context lies in pages of some shape. Legend: N its pages, P all pages, L layers, 2 key and value,
K key-value heads, S slots per page, V elements of a vector with its scale.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PageSpan:
    """Where keys and values of a context lie: `pages_N` (int64) of `kv_PL2KSV`, from its head `first_head` on.

    Staging is a span as well: its pages are 0, 1, 2, ...
    """

    kv_PL2KSV: Tensor
    pages_N: Tensor
    first_head: int = 0
