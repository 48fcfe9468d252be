"""The paths, and what stands around every endpoint: one error shape, one log line, one count."""

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from common.config.sections.gateway import GatewaySection
from common.core.clock import Clock
from common.core.errors import BatonError, InternalError, InvalidRequest, MalformedMessage, NotFound, Reason
from common.observe import catalogue
from common.observe.logging import get_log
from common.observe.registry import Metrics
from services.gateway.api import Api
from services.gateway.callers import Caller
from services.gateway.credentials import Door, OpenDoor
from services.gateway.errors import CLIENT_CLOSED, error_body, head_too_large
from services.gateway.exchange import ClientLeft, Exchange, as_text

Endpoint = Callable[[Exchange, Caller], Awaitable[None]]

PUBLIC = frozenset({"/", "/health"})
"""Paths for everybody: they tell nothing about anybody. All others need a credential where there are credentials."""

REQUEST_ID_HEADER = "x-request-id"
"""The client's own name for an exchange: comes back as it was, and is in the log."""

MAX_HEAD_BYTES = 16 << 10
MAX_HEADERS = 100

_LOG = get_log("gateway")


def make_site(api: Api, *, door: Door, limits: GatewaySection, metrics: Metrics, clock: Clock) -> Starlette:
    """The ASGI application."""
    endpoints: tuple[tuple[str, str, Endpoint], ...] = (
        ("POST", "/v1/completions", api.complete),
        ("POST", "/v1/chat/completions", api.chat),
        ("POST", "/v1/embeddings", api.embeddings),
        ("GET", "/v1/models", api.models),
        ("GET", "/v1/models/{name:path}", api.one_model),
        ("POST", "/tokenize", api.tokenize),
        ("POST", "/detokenize", api.detokenize),
        ("GET", "/", api.page),
        ("GET", "/health", api.health),
        ("GET", "/version", api.version),
        ("GET", "/metrics", api.metrics),
    )
    routes = [
        Route(
            path,
            _Handler(
                path,
                serve,
                door=OpenDoor() if path in PUBLIC else door,
                limits=limits,
                metrics=metrics,
                clock=clock,
            ),
            methods=[method],
        )
        for method, path, serve in endpoints
    ]
    site = Starlette(routes=routes, exception_handlers={HTTPException: _no_such_path})
    site.router.redirect_slashes = False  # a redirect would repeat whatever the Host header claims
    return site


class _Handler:
    """One path as an ASGI application."""

    def __init__(
        self, path: str, serve: Endpoint, *, door: Door, limits: GatewaySection, metrics: Metrics, clock: Clock
    ) -> None:
        self._path = path
        self._serve = serve
        self._door = door
        self._limits = limits
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits = self._limits
        exchange = Exchange(scope, receive, send, max_body_bytes=limits.max_body_bytes, body_s=limits.head_s)
        if name := as_text(exchange.asked.get(REQUEST_ID_HEADER, "")):
            exchange.headers[REQUEST_ID_HEADER] = name
        began = self._clock.monotonic()
        try:
            await self._answered(exchange)
        except ClientLeft:
            exchange.status = CLIENT_CLOSED
        finally:
            self._note(exchange, self._clock.monotonic() - began)

    async def _answered(self, exchange: Exchange) -> None:
        try:
            check_head(exchange)
            named = exchange.asked.getlist("authorization")
            caller = self._door.admit(named[0] if len(named) == 1 else "")  # of two, a proxy may have checked the other
            await self._serve(exchange, caller)
        except ClientLeft:
            raise
        except BatonError as error:
            await exchange.fail(error)
        except Exception as error:  # the boundary: whatever it is, the client gets no traceback
            _LOG.error("endpoint_failed", path=self._path, error=repr(error))
            if exchange.status:
                raise
            await exchange.fail(InternalError(message="the gateway failed: see its log under this request id"))

    def _note(self, exchange: Exchange, seconds: float) -> None:
        code = exchange.failure.reason.value if exchange.failure else ""
        self._metrics.add(catalogue.HTTP_REQUESTS, path=self._path, status=str(exchange.status))
        self._metrics.observe(catalogue.HTTP_SECONDS, seconds, path=self._path)
        if exchange.failure is not None or exchange.status >= 500:
            _LOG.info(
                "http_request_failed",
                path=self._path,
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


async def _no_such_path(request: Request, error: Exception) -> Response:
    """404 and 405 in the same shape as everything else."""
    assert isinstance(error, HTTPException)
    what = f"{as_text(request.method)} {as_text(request.scope['path'])}"  # request.url believes the Host header
    told: BatonError = NotFound(message=f"{what} is not served here", reason=Reason.UNSUPPORTED)
    if error.status_code != 404:
        told = InvalidRequest(message=f"{what}: {error.detail}", reason=Reason.UNSUPPORTED)
    headers = {**(error.headers or {}), "content-type": "application/json"}
    return Response(error_body(told), status_code=error.status_code, headers=headers)
