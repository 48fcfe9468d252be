"""Digests of pages that lie one behind the other, where they lie: what a hand-off compares, with nothing moved.

    digest[n] = (i + 1) k[0] + w[0] k[1] + ... + w[W-1] k[W]      modulo 2^64
    i = first_index + n, w the 32-bit words of page n

That is common/kv/digest, bit for bit. The same program as page_move's without its store; parts are added by atomics.

Bound by bytes: each page read once; keys, twice the bytes of one page, stay in the L2 cache.
Grid (words / TILE, pages / PAGES).

Legend: N pages, B bytes of a page, W words of 4 bytes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.gpu.page_move import PAGES, TILE
from kernels.gpu.specimen import Specimen
from kernels.move_keys import WORD_BYTES, MoveKeys, signed


@triton.jit(do_not_specialize=["num_pages"])
def digest_kernel(pages, keys, digests, num_words, num_pages, TILE: tl.constexpr, PAGES: tl.constexpr):
    words = tl.program_id(0) * TILE + tl.arange(0, TILE)
    is_in = words < num_words
    first = tl.program_id(1).to(tl.int64) * PAGES
    key = tl.load(keys + words, mask=is_in, other=0)
    for place in range(PAGES):
        number = first + place
        if number < num_pages:
            word = tl.load(pages + number * num_words + words, mask=is_in, other=0)
            part = tl.sum((word.to(tl.int64) & 0xFFFFFFFF) * key)
            tl.atomic_add(digests + number, part, sem="relaxed")


def digest(pages_NB: Tensor, keys: MoveKeys, first_index: int) -> Tensor:
    """digests_N, int64 bit patterns, of contiguous pages of bytes."""
    num_pages, page_bytes = pages_NB.shape
    assert pages_NB.dtype is torch.uint8
    assert pages_NB.is_contiguous()
    assert page_bytes % WORD_BYTES == 0, f"a page of {page_bytes} bytes is not whole words"
    num_words = page_bytes // WORD_BYTES  # below 2^31: a page is far below 8 GiB
    assert keys.words_W.shape == (num_words,), f"keys for another page than one of {num_words} words"
    indexes_N = torch.arange(first_index + 1, first_index + 1 + num_pages, device=pages_NB.device)
    digests_N = indexes_N * signed(keys.position)
    if num_pages:
        digest_kernel[(triton.cdiv(num_words, TILE), triton.cdiv(num_pages, PAGES))](
            pages_NB.view(torch.int32), keys.words_W, digests_N, num_words, num_pages, TILE=TILE, PAGES=PAGES
        )
    return digests_N


SPECIMENS = (
    Specimen(
        kernel=digest_kernel,
        label="words",
        types={"pages": "*i32", "keys": "*i64", "digests": "*i64", "num_words": "i32", "num_pages": "i32"},
        constants={"TILE": TILE, "PAGES": PAGES},
        divisible=frozenset(("num_words",)),
    ),
)
