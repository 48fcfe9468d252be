"""Pages that move, of the 8B shape: 2 MiB each, in random order."""

from functools import partial

import torch
from torch import Tensor

from kernels.bench.case import Case, Planned
from kernels.gpu.page_digest import digest
from kernels.gpu.page_move import move, reshape
from kernels.move_keys import MoveKeys
from kernels.page_move import page_digests
from kernels.page_span import PageSpan

LAYERS, KEY_HEADS, PAGE_SIZE, DIM = 32, 8, 16, 128
PAGES = 1024
"""Half of them move: 1 GiB."""

CHECKED = 4
"""Pages whose digests are taken by torch as well."""


def _pages(device: torch.device, *, is_small: bool) -> tuple[Tensor, Tensor]:
    """kv_PL2KSD of random bytes, and the pages that move."""
    num_pages, layers = (8, 1) if is_small else (PAGES, LAYERS)
    shape = (num_pages, layers, 2, KEY_HEADS, PAGE_SIZE, DIM)
    kv = torch.randint(-(2**15), 2**15, shape, dtype=torch.int16, device=device).view(torch.bfloat16)
    return kv, torch.randperm(num_pages, device=device)[: num_pages // 2]


def moved(name: str, has_digest: bool, is_gather: bool, device: torch.device, *, is_small: bool) -> Case:
    """Between pages and staging."""
    kv, pages_N = _pages(device, is_small=is_small)
    pages_PB = kv.view(len(kv), -1).view(torch.uint8)
    staging_NB = pages_PB[pages_N]
    words_W = torch.randint(-(2**62), 2**62, (pages_PB.shape[1] // 4,), device=device)
    keys = MoveKeys(position=3, words_W=words_W)
    source, target = (pages_PB, staging_NB) if is_gather else (staging_NB, pages_PB)

    def run(_: int = 0) -> Tensor | None:
        return move(source, target, pages_N, keys if has_digest else None, 0, is_gather=is_gather)

    def error() -> float:
        """0 or 1: bytes and digests are exact."""
        expected_NB = pages_PB[pages_N]
        digests_N = run()
        is_right = torch.equal(pages_PB[pages_N], expected_NB) and torch.equal(staging_NB, expected_NB)
        if digests_N is not None:
            is_right &= torch.equal(digests_N[:CHECKED], page_digests(expected_NB[:CHECKED], keys, 0))
        return float(not is_right)

    return Case(name=name, num_bytes=2 * staging_NB.nbytes, flops=0, tolerance=0.0, error=error, run=run)


def digested(name: str, device: torch.device, *, is_small: bool) -> Case:
    """In staging: what verification reads."""
    kv, pages_N = _pages(device, is_small=is_small)
    staging_NB = kv.view(len(kv), -1).view(torch.uint8)[pages_N]
    keys = MoveKeys(position=3, words_W=torch.randint(-(2**62), 2**62, (staging_NB.shape[1] // 4,), device=device))

    def run(_: int = 0) -> Tensor:
        return digest(staging_NB, keys, 0)

    def error() -> float:
        """0 or 1: digests are exact."""
        return float(not torch.equal(run()[:CHECKED], page_digests(staging_NB[:CHECKED], keys, 0)))

    return Case(name=name, num_bytes=staging_NB.nbytes, flops=0, tolerance=0.0, error=error, run=run)


def resharded(name: str, device: torch.device, *, is_small: bool) -> Case:
    """Half of the heads into pages of their own: from one rank's pages to one of two."""
    kv, pages_N = _pages(device, is_small=is_small)
    half = torch.empty((len(pages_N), kv.shape[1], 2, KEY_HEADS // 2, PAGE_SIZE, DIM), dtype=kv.dtype, device=device)
    source = PageSpan(kv_PL2KSV=kv, pages_N=pages_N, first_head=KEY_HEADS // 2)
    target = PageSpan(kv_PL2KSV=half, pages_N=torch.arange(len(pages_N), device=device))

    def run(_: int = 0) -> None:
        reshape(source, target, num_tokens=len(pages_N) * PAGE_SIZE, num_heads=KEY_HEADS // 2)

    def error() -> float:
        run()
        expected = kv[pages_N][:, :, :, KEY_HEADS // 2 :]
        return float(not torch.equal(half.view(torch.int16), expected.view(torch.int16)))

    return Case(name=name, num_bytes=2 * half.nbytes, flops=0, tolerance=0.0, error=error, run=run)


CASES = (
    *(
        Planned(name=name, make=partial(moved, name, has_digest, is_gather))
        for name, has_digest, is_gather in (
            ("pages gathered", False, True),
            ("pages gathered with digest", True, True),
            ("pages scattered with digest", True, False),
        )
    ),
    Planned(name="pages digested in staging", make=partial(digested, "pages digested in staging")),
    Planned(name="pages, half of their heads", make=partial(resharded, "pages, half of their heads")),
)
