"""Cached pages kept for another worker: found like a prompt's own prefix, and held until they were fetched."""

from common.core.errors import AlreadyExists
from common.core.ids import RequestId
from common.core.request import Work
from common.kv.hashing import PrefixChain
from common.transfer.messages import Finale
from common.worker.loan import Loan
from common.worker.retention import PagesKept, Retention


def name_of(work: Work) -> RequestId:
    """What the ticket of a work's cached pages names: once per attempt."""
    return RequestId(f"{work.request}^{work.attempt}")


def keep_prefix(work: Work, retention: Retention) -> PagesKept | None:
    """On the step loop: one more reader for the longest cached run of the work's context, in the work's own scope. The
    last token is left out, because whoever reads the context computes it. None: nothing of it is here.

    Raises Refused where too much is kept already, AlreadyExists where this attempt's is.
    """
    name, context = name_of(work), work.context
    cache, layout = retention.cache, retention.layout
    if name in retention:
        raise AlreadyExists(message=f"cached pages for {work.request} attempt {work.attempt} are kept here already")
    chain = PrefixChain(scope=work.cache_scope, layout=layout)
    chain.extend(context)
    found = cache.match(chain.hashes, context[:-1])
    if not found:
        return None
    num_tokens = len(found) * layout.page_size
    # Nothing was drawn after these tokens: whoever fetches them goes on reading.
    finale = Finale(first_tokens=(), total_pages=len(found), cached_tokens=num_tokens)
    kept = PagesKept(name=name, work=work, context=context[:num_tokens], finale=finale, loan=Loan(found))
    try:
        retention.check_room(len(found), coming_requests=0, coming_pages=0)
        retention.keep(kept)
    finally:
        cache.release(found)
    return kept
