"""Move pages on the device that holds them: into staging and out of it with the hand-off's digest, and into pages of
another shape. Bound by bytes: each read once and written once.

    digest[n] = (i + 1) k[0] + w[0] k[1] + ... + w[W-1] k[W]      modulo 2^64
    i = first_index + n, w the 32-bit words of page n             common/kv/digest, bit for bit

On a GPU one pass (kernels/gpu/page_move), elsewhere torch's operators, which are the oracle.

Legend: N pages that move, P pages, B bytes of a page, W words of 4 bytes, L layers, 2 key and value, K key-value heads,
S slots per page, V elements of a vector with its scale, T tokens, D head dim.
"""

import torch
from torch import Tensor

from kernels.dispatch import Backend, backend
from kernels.move_keys import MoveKeys, signed
from kernels.page_span import PageSpan
from kernels.quantized_pages import is_quantized, parts


def gather_pages(
    pages_PB: Tensor, pages_N: Tensor, staging_NB: Tensor, keys: MoveKeys | None = None, *, first_index: int = 0
) -> Tensor | None:
    """Copy pages into contiguous staging. digests_N, int64 bit patterns, where there are keys.

    `pages_PB` and `staging_NB` are contiguous bytes, `pages_N` int64; the caller vouches that the pages exist.
    """
    if backend(pages_PB) is Backend.TRITON:
        from kernels.gpu.page_move import move

        return move(pages_PB, staging_NB, pages_N, keys, first_index, is_gather=True)
    torch.index_select(pages_PB, 0, pages_N, out=staging_NB)
    return None if keys is None else page_digests(staging_NB, keys, first_index)


def scatter_pages(
    staging_NB: Tensor,
    pages_PB: Tensor,
    pages_N: Tensor,
    keys: MoveKeys | None = None,
    digests_N: Tensor | None = None,
    *,
    first_index: int = 0,
) -> Tensor | None:
    """Copy staging into pages. is_corrupt_N where there are keys: the page is not what `digests_N` says was sent.

    Corrupt pages are written like others: nobody may read a page before its digest was looked at.
    """
    assert (keys is None) == (digests_N is None), "keys and digests come together"
    if backend(pages_PB) is Backend.TRITON:
        from kernels.gpu.page_move import move

        found_N = move(staging_NB, pages_PB, pages_N, keys, first_index, is_gather=False)
    else:
        pages_PB.index_copy_(0, pages_N, staging_NB)
        found_N = None if keys is None else page_digests(staging_NB, keys, first_index)
    return None if found_N is None or digests_N is None else found_N != digests_N


def digest_pages(pages_NB: Tensor, keys: MoveKeys, first_index: int) -> Tensor:
    """digests_N, int64 bit patterns, of pages that lie one behind the other; nothing moves."""
    if backend(pages_NB) is Backend.TRITON:
        from kernels.gpu.page_digest import digest

        return digest(pages_NB, keys, first_index)
    return page_digests(pages_NB, keys, first_index)


def page_digests(pages_NB: Tensor, keys: MoveKeys, first_index: int) -> Tensor:
    """digests_N of contiguous pages by torch: products and sums of int64 wrap as those modulo 2^64 do."""
    words_NW = pages_NB.view(torch.int32).long() & 0xFFFFFFFF
    indexes_N = torch.arange(first_index + 1, first_index + 1 + len(pages_NB), device=pages_NB.device)
    return indexes_N * signed(keys.position) + (words_NW * keys.words_W).sum(dim=1)


def reshape_pages(source: PageSpan, destination: PageSpan, *, num_tokens: int, num_heads: int) -> None:
    """Carry `num_heads` heads of the first `num_tokens` tokens to pages with other heads (another degree of tensor
    parallelism) or other page sizes. Slots behind the last token keep what they hold.

    Nobody calls it yet: no worker is larger than one GPU.
    """
    have, want = source.kv_PL2KSV, destination.kv_PL2KSV
    assert have.dtype is want.dtype, f"{have.dtype} to {want.dtype}"
    assert (want.shape[1], want.shape[5]) == (have.shape[1], have.shape[5]), "layers and vectors of one kind"
    for span, slots in ((source, have.shape[4]), (destination, want.shape[4])):
        assert span.first_head + num_heads <= span.kv_PL2KSV.shape[3], f"{num_heads} heads from {span.first_head} on"
        assert len(span.pages_N) * slots >= num_tokens, f"{len(span.pages_N)} pages for {num_tokens} tokens"
    if backend(have) is Backend.TRITON:
        from kernels.gpu.page_move import reshape

        reshape(source, destination, num_tokens=num_tokens, num_heads=num_heads)
        return
    for taken, placed in zip(_vectors(source, num_heads), _vectors(destination, num_heads), strict=True):
        positions_T = torch.arange(num_tokens, device=have.device)
        from_T, to_T = positions_T % have.shape[4], positions_T % want.shape[4]
        pages_T = source.pages_N[positions_T // have.shape[4]]
        targets_T = destination.pages_N[positions_T // want.shape[4]]
        placed[targets_T, :, :, to_T] = taken[pages_T, :, :, from_T]


def _vectors(span: PageSpan, num_heads: int) -> list[Tensor]:
    """Views (P, 2 L, heads, S, ...) of the vectors of a span's heads, and of their scales where they have some."""
    kv = span.kv_PL2KSV
    own = slice(span.first_head, span.first_head + num_heads)
    num_pages, num_layers, _, num_all, num_slots, width = kv.shape
    shape = (num_pages, num_layers * 2, num_all)
    if not is_quantized(kv):
        return [kv.view(*shape, num_slots, width)[:, :, own]]
    numbers_XSD, scales_XS = parts(kv.view(-1, num_slots * width), num_slots)
    return [
        numbers_XSD.unflatten(0, shape)[:, :, own],  # type: ignore[no-untyped-call]
        scales_XS.unflatten(0, shape)[:, :, own],  # type: ignore[no-untyped-call]
    ]
