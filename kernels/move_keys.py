"""What the digest of a moved page is made with (kernels/page_move). Legend: W words of 4 bytes of a page."""

from dataclasses import dataclass

from torch import Tensor

WORD_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MoveKeys:
    """The keys of one pair of workers, on the device: k[0], and k[1] to k[W], as int64 bit patterns."""

    position: int
    words_W: Tensor


def signed(word: int) -> int:
    """The int64 with the same bits as an unsigned word."""
    return word - 2**64 if word >= 2**63 else word
