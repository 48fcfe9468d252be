"""Pages of other origins: which of them a browser may let ask this server (the Fetch standard's CORS protocol)."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from services.gateway.callers import denied
from services.gateway.exchange import Exchange

ANY = "*"
KEPT_S = "600"
"""How long a browser may remember an answer to its question."""

OTHERS = frozenset({"cross-site", "same-site"})
"""What a browser says of a request by a page that this server did not give it."""

SHOWN = "baton-request-id, baton-ignored-fields, retry-after, x-request-id"


@dataclass(frozen=True, slots=True)
class Origins:
    """Nobody's, unless the operator named them."""

    named: frozenset[str]

    @classmethod
    def read(cls, text: str) -> Self:
        """From a list with commas, or `*`."""
        return cls(frozenset(part.strip() for part in text.split(",") if part.strip()))

    def note(self, exchange: Exchange) -> bool:
        """Says in the answer's headers what a browser may do. Whether that was all that was asked: a browser asks
        before it sends, and without the credential.

        Raises InvalidRequest (PERMISSION_DENIED) for what a page of another origin sent without asking, as browsers let
        it where the body claims to be plain text: its work would be done, though nobody could read the answer. Before
        JSON they ask, so JSON is served, also behind a proxy that calls this server by another name.
        """
        origin = exchange.asked.get("origin", "")
        if not (ANY in self.named or origin in self.named):
            if exchange.method == "POST" and not _is_json(exchange) and _is_of_another(exchange, origin):
                raise denied("pages of this origin may not ask: gateway.allowed_origins names those that may")
            return False
        if not origin:
            return False
        exchange.headers["access-control-allow-origin"] = ANY if ANY in self.named else origin
        exchange.headers["vary"] = "origin"
        if exchange.method != "OPTIONS" or "access-control-request-method" not in exchange.asked:
            exchange.headers["access-control-expose-headers"] = SHOWN
            return False
        exchange.headers["access-control-allow-methods"] = "GET, HEAD, POST, OPTIONS"
        exchange.headers["access-control-allow-headers"] = "authorization, content-type, baton-timeout-s, x-request-id"
        exchange.headers["access-control-max-age"] = KEPT_S
        return True


def _is_json(exchange: Exchange) -> bool:
    return exchange.asked.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


def _is_of_another(exchange: Exchange, origin: str) -> bool:
    """Browsers say whose page asks only where the way is safe from listeners; elsewhere its origin tells, against the
    name that this server was called by. Whoever is no browser sends neither."""
    said = exchange.asked.get("sec-fetch-site")
    if said is not None:
        return said in OTHERS
    return bool(origin) and _place(origin) != exchange.asked.get("host", "").lower()


def _place(origin: str) -> str:
    """Host and port; empty for what is no place: a file, a frame without rights."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
