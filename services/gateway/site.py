"""The paths, and what stands around every endpoint: who is let in, one error shape, one log line, one count."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.types import Receive, Scope, Send

from common.config.sections.gateway import GatewaySection
from common.core.clock import Clock
from common.core.entropy import Entropy, mint_name
from common.core.errors import BatonError, InternalError, InvalidRequest, MalformedMessage, NotFound, Reason
from common.observe import catalogue
from common.observe.logging import get_log
from common.observe.registry import Metrics
from common.observe.tracing.tracer import NoTracer
from services.gateway.api import REQUEST_ID_HEADER, Api
from services.gateway.callers import Caller
from services.gateway.credentials import Door
from services.gateway.errors import CLIENT_CLOSED, head_too_large
from services.gateway.exchange import ClientLeft, Exchange, as_text
from services.gateway.origins import Origins
from services.gateway.timed_protocol import MAX_HEAD_BYTES
from services.gateway.tracing import Tracing

Endpoint = Callable[[Exchange, Caller], Awaitable[None]]
Methods = Mapping[str, Endpoint]

PUBLIC = frozenset({"/", "/health", "/ping"})
"""Paths for everybody: they tell nothing about anybody. All others need a credential where there are credentials."""

NO_PATH = "other"
"""What stands in metrics for paths that are not served: their names are the clients' to choose."""

MAX_HEADERS = 100
"""Chosen: a browser behind two proxies sends thirty."""

ONE_MODEL = "/v1/models/"

_LOG = get_log("gateway")


def make_site(
    api: Api,
    *,
    door: Door,
    limits: GatewaySection,
    metrics: Metrics,
    clock: Clock,
    entropy: Entropy,
    tracing: "Tracing | None" = None,
) -> "Site":
    """With every endpoint."""
    paths: dict[str, Methods] = {
        "/v1/completions": {"POST": api.complete},
        "/v1/chat/completions": {"POST": api.chat},
        "/v1/models": {"GET": api.models},
        ONE_MODEL: {"GET": api.one_model},
        "/tokenize": {"POST": api.tokenize},
        "/detokenize": {"POST": api.detokenize},
        "/": {"GET": api.page},
        "/health": {"GET": api.health},
        "/ping": {"GET": api.health, "POST": api.health},
        "/version": {"GET": api.version},
        "/metrics": {"GET": api.metrics},
    }
    paths |= {path: {"POST": serve} for path, serve in api.unserved().items()}
    tracing = tracing or Tracing(where="gateway", tracer=NoTracer())
    return Site(paths, door=door, limits=limits, metrics=metrics, clock=clock, entropy=entropy, tracing=tracing)


class Site:
    """The ASGI application."""

    def __init__(
        self,
        paths: Mapping[str, Methods],
        *,
        door: Door,
        limits: GatewaySection,
        metrics: Metrics,
        clock: Clock,
        entropy: Entropy,
        tracing: Tracing,
    ) -> None:
        self._paths = paths
        self._door = door
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._entropy = entropy
        self._tracing = tracing
        self._origins = Origins.read(limits.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits = self._limits
        exchange = Exchange(scope, receive, send, max_body_bytes=limits.max_body_bytes, body_s=limits.head_s)
        if name := as_text(exchange.asked.get(REQUEST_ID_HEADER, "")):
            exchange.headers[REQUEST_ID_HEADER] = name
        path = self._path(exchange.path)
        began = self._clock.monotonic()
        traced = self._tracing.begin(exchange, path)
        try:
            await self._answered(exchange, path)
        except ClientLeft:
            exchange.status = CLIENT_CLOSED
        finally:
            ended = self._clock.monotonic()
            self._note(exchange, path, ended - began)
            self._tracing.end(traced, exchange, path, (began, ended))

    def _path(self, asked: str) -> str:
        """The path served. One slash too many at the end is nobody's intention."""
        path = asked if asked == "/" else asked.removesuffix("/")
        if path.startswith(ONE_MODEL):
            return ONE_MODEL
        return path if path in self._paths else NO_PATH

    async def _answered(self, exchange: Exchange, path: str) -> None:
        try:
            check_head(exchange)
            if self._origins.note(exchange):
                await exchange.nothing()
                return
            await self._served(exchange, path, Caller() if path in PUBLIC else self._admit(exchange))
        except ClientLeft:
            raise
        except BatonError as error:
            await exchange.fail(error)
        except Exception as error:  # the boundary: whatever it is, the client gets no traceback
            name = mint_name(self._entropy, "err")
            _LOG.error("endpoint_failed", path=path, error_id=name, exc_info=error)
            message = f"internal error {name}; the gateway's log has the details"
            told = InternalError(message=message, facts={"error_id": name})
            if exchange.is_streaming:
                await exchange.break_off(told)
            elif exchange.status:
                raise
            else:
                await exchange.fail(told)

    def _admit(self, exchange: Exchange) -> Caller:
        """Raises InvalidRequest (UNAUTHENTICATED)."""
        named = exchange.asked.getlist("authorization")
        return self._door.admit(named[0] if len(named) == 1 else "")  # of two, a proxy may have checked the other

    async def _served(self, exchange: Exchange, path: str, caller: Caller) -> None:
        """Raises NotFound, and whatever the endpoint raises."""
        what = f"{as_text(exchange.method)} {as_text(exchange.path)}"
        if path not in self._paths:
            raise NotFound(message=f"{what} is not served here", reason=Reason.UNSUPPORTED)
        methods = self._paths[path]
        serve = methods.get("GET" if exchange.method == "HEAD" else exchange.method)
        if serve is not None:
            await serve(exchange, caller)
            return
        exchange.headers["allow"] = ", ".join([*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])])
        if exchange.method == "OPTIONS":
            await exchange.nothing()
            return
        told = InvalidRequest(message=f"{what}: not a method of this path", reason=Reason.UNSUPPORTED)
        await exchange.fail(told, status=405)

    def _note(self, exchange: Exchange, path: str, seconds: float) -> None:
        code = exchange.failure.reason.value if exchange.failure else ""
        self._metrics.add(catalogue.HTTP_REQUESTS, path=path, status=str(exchange.status))
        self._metrics.observe(catalogue.HTTP_SECONDS, seconds, path=path)
        if exchange.failure is not None or exchange.status >= 500:
            _LOG.info(
                "http_request_failed",
                path=path,
                status=exchange.status,
                reason=code,
                request=exchange.headers.get("baton-request-id", ""),
                seconds=round(seconds, 4),
            )


def check_head(exchange: Exchange) -> None:
    """h11 bounds a head that is incomplete; this one came whole. Raises Refused, MalformedMessage."""
    if exchange.head_bytes > MAX_HEAD_BYTES or len(exchange.asked) > MAX_HEADERS:
        raise head_too_large(MAX_HEAD_BYTES, MAX_HEADERS)
    if "content-length" in exchange.asked and "transfer-encoding" in exchange.asked:
        message = "content-length and transfer-encoding contradict each other: send one of them"
        raise MalformedMessage(message=message)  # proxies that believe the other one would see another request's begin
