"""Which pages to ship next, and how many bytes they are. Pure."""

from common.core.errors import InvalidRequest
from common.transfer.messages import PageRun


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
        PageRun(first_page=first, num_pages=min(max_run_pages, run.end - first))
        for first in range(run.first_page, run.end, max_run_pages)
    )


def pages_of(num_tokens: int, page_size: int) -> int:
    """Pages that hold `num_tokens`, the last one perhaps in part."""
    return -(-num_tokens // page_size)


def run_bytes(run: PageRun, page_bytes: int) -> int:
    """Bytes of a run on the data plane: whole pages and nothing else."""
    return run.num_pages * page_bytes


def max_run_pages(staging_bytes: int, page_bytes: int) -> int:
    """Pages that one staging buffer holds. Raises InvalidRequest when it holds none: staging_bytes must grow."""
    pages = staging_bytes // page_bytes
    if pages == 0:
        raise InvalidRequest(
            message=f"a page of {page_bytes} bytes does not fit a staging buffer of {staging_bytes} bytes"
        )
    return pages
