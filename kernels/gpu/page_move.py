"""Move pages: into staging and out of it, with the hand-off's digest taken on the way; and into pages of another shape.

    digest[n] = (i + 1) k[0] + w[0] k[1] + ... + w[W-1] k[W]      modulo 2^64
    i = first_index + n, w the 32-bit words of page n

That is common/kv/digest, bit for bit: integers modulo 2^64 have no order of summation, so programs add their parts by
atomics. Keys are shared by all pages of a pair of workers: a program reads its keys once for PAGES pages.

Bound by bytes: each page read once and written once; keys, twice the bytes of one page, stay in the L2 cache.
Grid (words / TILE, pages / PAGES).

Legend: N pages that move, P pages, B bytes of a page, W words of 4 bytes, L layers, 2 key and value, K key-value heads,
S slots per page, V elements of a vector with its scale, T tokens.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.gpu.specimen import Specimen
from kernels.move_keys import WORD_BYTES, MoveKeys, signed
from kernels.page_span import PageSpan
from kernels.quantized_pages import channels, is_quantized

TILE = 2048
"""Words of a page that a program moves at once: four loads of 16 bytes a thread."""

PAGES = 8
"""Pages per program: keys cost a quarter of the words they multiply, from the cache."""

TOKENS = 16
"""Vectors of one head that a program carries to pages of another shape."""


@triton.jit(do_not_specialize=["num_pages"])
def move_kernel(
    source,
    destination,
    source_pages,
    destination_pages,
    keys,
    digests,
    num_words,
    num_pages,
    IS_SOURCE_LISTED: tl.constexpr,
    IS_DESTINATION_LISTED: tl.constexpr,
    HAS_DIGEST: tl.constexpr,
    TILE: tl.constexpr,
    PAGES: tl.constexpr,
):
    words = tl.program_id(0) * TILE + tl.arange(0, TILE)
    is_in = words < num_words
    first = tl.program_id(1).to(tl.int64) * PAGES
    if HAS_DIGEST:
        key = tl.load(keys + words, mask=is_in, other=0)
    for place in range(PAGES):
        number = first + place
        if number < num_pages:
            origin, target = number, number
            if IS_SOURCE_LISTED:
                origin = tl.load(source_pages + number)
            if IS_DESTINATION_LISTED:
                target = tl.load(destination_pages + number)
            word = tl.load(source + origin * num_words + words, mask=is_in, other=0)
            tl.store(destination + target * num_words + words, word, mask=is_in)
            if HAS_DIGEST:
                part = tl.sum((word.to(tl.int64) & 0xFFFFFFFF) * key)
                tl.atomic_add(digests + number, part, sem="relaxed")


@triton.jit(do_not_specialize=["num_tokens", "source_first", "destination_first"])
def reshape_kernel(
    source,
    destination,
    source_pages,
    destination_pages,
    num_tokens,
    num_layers,
    num_heads,
    source_first,
    source_heads,
    source_slots,
    destination_first,
    destination_heads,
    destination_slots,
    WORDS: tl.constexpr,
    HAS_SCALE: tl.constexpr,
    TOKENS: tl.constexpr,
    TILE: tl.constexpr,
):
    """WORDS of a vector without its scale. Grid (layers * 2 * heads that move, tokens / TOKENS)."""
    row = tl.program_id(0)
    layer_part, head = (row // num_heads).to(tl.int64), row % num_heads
    token = (tl.program_id(1) * TOKENS + tl.arange(0, TOKENS))[:, None]
    word = tl.arange(0, TILE)[None, :]
    is_row = token < num_tokens
    is_in = is_row & (word < WORDS)
    vector: tl.constexpr = WORDS + (1 if HAS_SCALE else 0)
    page = tl.load(source_pages + token // source_slots, mask=is_row, other=0)
    chunk = (page * num_layers * 2 + layer_part) * source_heads + source_first + head
    base = chunk * source_slots * vector
    slot = token % source_slots
    taken = tl.load(source + base + slot * WORDS + word, mask=is_in, other=0)
    page = tl.load(destination_pages + token // destination_slots, mask=is_row, other=0)
    chunk = (page * num_layers * 2 + layer_part) * destination_heads + destination_first + head
    target = chunk * destination_slots * vector
    place = token % destination_slots
    tl.store(destination + target + place * WORDS + word, taken, mask=is_in)
    if HAS_SCALE:
        scale = tl.load(source + base + source_slots * WORDS + slot, mask=is_row, other=0)
        tl.store(destination + target + destination_slots * WORDS + place, scale, mask=is_row)


def move(
    source: Tensor, destination: Tensor, pages_N: Tensor, keys: MoveKeys | None, first_index: int, *, is_gather: bool
) -> Tensor | None:
    """Copy between pages and staging, both bytes; digests_N of what was copied where there are keys."""
    page_bytes, num_pages = source.shape[1], len(pages_N)
    assert source.dtype is destination.dtype is torch.uint8
    assert pages_N.dtype is torch.int64
    assert source.is_contiguous()
    assert destination.is_contiguous()
    assert page_bytes == destination.shape[1]
    assert page_bytes % WORD_BYTES == 0, f"a page of {page_bytes} bytes is not whole words"
    assert len(destination if is_gather else source) == num_pages, "staging holds the pages that move, and no others"
    num_words = page_bytes // WORD_BYTES  # below 2^31: a page is far below 8 GiB
    assert keys is None or keys.words_W.shape == (num_words,), f"keys for another page than one of {num_words} words"
    digests_N = pages_N  # any pointer: nobody follows it
    if keys is not None:
        indexes_N = torch.arange(first_index + 1, first_index + 1 + num_pages, device=pages_N.device)
        digests_N = indexes_N * signed(keys.position)
    if num_pages:
        move_kernel[(triton.cdiv(num_words, TILE), triton.cdiv(num_pages, PAGES))](
            source.view(torch.int32),
            destination.view(torch.int32),
            pages_N,
            pages_N,
            pages_N if keys is None else keys.words_W,
            digests_N,
            num_words,
            num_pages,
            IS_SOURCE_LISTED=is_gather,
            IS_DESTINATION_LISTED=not is_gather,
            HAS_DIGEST=keys is not None,
            TILE=TILE,
            PAGES=PAGES,
        )
    return None if keys is None else digests_N


def reshape(source: PageSpan, destination: PageSpan, *, num_tokens: int, num_heads: int) -> None:
    """See kernels/page_move.reshape_pages, which looked at the shapes."""
    have, want = source.kv_PL2KSV, destination.kv_PL2KSV
    dim = channels(have)
    _, num_layers, _, source_heads, source_slots, _ = have.shape
    _, _, _, target_heads, target_slots, _ = want.shape
    assert have.is_contiguous()
    assert want.is_contiguous()
    num_bytes = dim * have.element_size()
    assert num_bytes % WORD_BYTES == 0, f"a vector of {num_bytes} bytes is not whole words"
    num_words = num_bytes // WORD_BYTES
    if num_tokens == 0:
        return
    reshape_kernel[(num_layers * 2 * num_heads, triton.cdiv(num_tokens, TOKENS))](
        have.view(-1).view(torch.int32),
        want.view(-1).view(torch.int32),
        source.pages_N,
        destination.pages_N,
        num_tokens,
        num_layers,
        num_heads,
        source.first_head,
        source_heads,
        source_slots,
        destination.first_head,
        target_heads,
        target_slots,
        WORDS=num_words,
        HAS_SCALE=is_quantized(have),
        TOKENS=TOKENS,
        TILE=triton.next_power_of_2(num_words),
    )


def _specimens() -> tuple[Specimen, ...]:
    pointers = {"source": "*i32", "destination": "*i32", "source_pages": "*i64", "destination_pages": "*i64"}
    moves = [
        Specimen(
            kernel=move_kernel,
            label=f"{'gather' if is_gather else 'scatter'}{', digest' if has_digest else ''}",
            types={**pointers, "keys": "*i64", "digests": "*i64", "num_words": "i32", "num_pages": "i32"},
            constants={
                "IS_SOURCE_LISTED": is_gather,
                "IS_DESTINATION_LISTED": not is_gather,
                "HAS_DIGEST": has_digest,
                "TILE": TILE,
                "PAGES": PAGES,
            },
            divisible=frozenset(("num_words",)),
        )
        for is_gather in (True, False)
        for has_digest in (True, False)
    ]
    sizes = ("num_tokens", "num_layers", "num_heads", "source_first", "source_heads", "source_slots")
    targets = ("destination_first", "destination_heads", "destination_slots")
    reshapes = [
        Specimen(
            kernel=reshape_kernel,
            label=f"{words} words{', scales' if has_scale else ''}",
            types={**pointers, **dict.fromkeys((*sizes, *targets), "i32")},
            constants={"WORDS": words, "HAS_SCALE": has_scale, "TOKENS": TOKENS, "TILE": triton.next_power_of_2(words)},
            divisible=frozenset(("source_slots", "destination_slots")),
        )
        for words, has_scale in ((64, False), (40, False), (32, True))
    ]
    return (*moves, *reshapes)


SPECIMENS = _specimens()
