"""Which pages to ship next, and how many bytes they are. Pure."""

from collections import deque
from dataclasses import replace

from common.core.errors import InvalidRequest
from common.kv.layout import LayerSpan
from common.transfer.messages import PageRun

MAX_PAGES = 1 << 22
"""Of one request, for the digest's indexes: 64 million tokens of pages of 16, beside up to 1,000 layers."""


def plan_runs(
    *, held_pages: int, tokens_before: int, tokens_after: int, is_last: bool, page_size: int, max_run_pages: int
) -> tuple[PageRun, ...]:
    """Runs that became ready when the computed context grew from `tokens_before` to `tokens_after`.

    Full pages only, with `is_last` also the partial page at the end, whole. The leading `held_pages` are never sent.
    Over a request's life, with each call starting where the last ended, every page from `held_pages` on comes out once.
    """
    if not 0 <= tokens_before <= tokens_after:
        raise ValueError(f"context cannot shrink: {tokens_before} to {tokens_after} tokens")
    start = max(held_pages, tokens_before // page_size)
    end = pages_of(tokens_after, page_size) if is_last else tokens_after // page_size
    return split(PageRun(first_page=start, num_pages=max(0, end - start)), max_run_pages)


def split(run: PageRun, max_run_pages: int) -> tuple[PageRun, ...]:
    """`run` in pieces of at most `max_run_pages`, in order. An empty run gives no piece."""
    if max_run_pages < 1:
        raise ValueError(f"a run holds at least one page, not {max_run_pages}")
    return tuple(
        replace(run, first_page=first, num_pages=min(max_run_pages, run.end - first))
        for first in range(run.first_page, run.end, max_run_pages)
    )


def join(runs: deque[PageRun], max_run_pages: int) -> PageRun:
    """Takes the first of `runs`, with those of whole pages that go on where it ends, up to `max_run_pages`."""
    run = runs.popleft()
    while runs and run.layers is None and runs[0].layers is None and runs[0].first_page == run.end:
        num_pages = run.num_pages + runs[0].num_pages
        if num_pages > max_run_pages:
            break
        runs.popleft()
        run = replace(run, num_pages=num_pages)
    return run


def pages_of(num_tokens: int, page_size: int) -> int:
    """Pages that hold `num_tokens`, the last one perhaps in part."""
    return -(-num_tokens // page_size)


def run_bytes(run: PageRun, page_bytes: int, num_layers: int = 1) -> int:
    """Bytes of a run on the data plane: whole pages, or its layers of them, and nothing else."""
    return run.num_pages * part_bytes(run, page_bytes, num_layers)


def part_bytes(run: PageRun, page_bytes: int, num_layers: int) -> int:
    """Bytes of each page of `num_layers` that travel with a run."""
    return page_bytes if run.layers is None else page_bytes // num_layers * run.layers.num


def num_layers_of(run: PageRun, num_layers: int) -> int:
    """Layers in all pages of a run together: what its progress is counted in."""
    return run.num_pages * (num_layers if run.layers is None else run.layers.num)


def digest_index(run: PageRun) -> int:
    """Under which index the run's first page is digested; those behind it follow. No two (page, first layer) share one,
    and their differences stay below 2**32, as the digest asks for."""
    if run.layers is None:
        return run.first_page
    assert run.end <= MAX_PAGES, f"{run} lies beyond {MAX_PAGES} pages"
    return run.first_page + (run.layers.first + 1) * MAX_PAGES


def split_layers(run: PageRun, *, num_layers: int, num_groups: int) -> tuple[PageRun, ...]:
    """`run` of whole pages as runs of equal groups of layers, lowest first. As it is for one group."""
    assert run.layers is None, f"{run} is not of whole pages"
    assert num_layers % num_groups == 0, f"{num_groups} groups of {num_layers} layers"
    if num_groups == 1:
        return (run,)
    num = num_layers // num_groups
    return tuple(replace(run, layers=LayerSpan(first=first, num=num)) for first in range(0, num_layers, num))


def max_run_pages(staging_bytes: int, page_bytes: int) -> int:
    """Pages that one staging buffer holds. Raises InvalidRequest when it holds none: staging_bytes must grow."""
    pages = staging_bytes // page_bytes
    if pages == 0:
        raise InvalidRequest(
            message=f"a page of {page_bytes} bytes does not fit a staging buffer of {staging_bytes} bytes"
        )
    return pages
