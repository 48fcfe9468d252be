"""The most that any routing could find in caches: one shared pool as large as all machines together."""

from collections import OrderedDict

from services.simulator.trace import Trace


def hit_ceiling(trace: Trace, total_tokens: int) -> float:
    """Share of prompt tokens found when every request sees one pool of `total_tokens`, the least recently used going
    first. Requests are served at once and in order; the last prompt token is always computed."""
    capacity = total_tokens // trace.page_size
    pool: OrderedDict[int, None] = OrderedDict()
    cached_tokens = 0
    for request in trace.requests:
        found = 0
        for page in request.pages:
            if page not in pool:
                break
            found += 1
        cached_tokens += min(found * trace.page_size, request.prompt_tokens - 1)
        for page in reversed(request.pages):
            pool[page] = None
            pool.move_to_end(page)
        while len(pool) > capacity:
            pool.popitem(last=False)
    return cached_tokens / max(trace.prompt_tokens, 1)
