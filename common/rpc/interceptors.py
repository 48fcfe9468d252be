"""The boundary around every handler: decodes the request, applies the deadline, turns exceptions into statuses.

One wrapper for all of them, so that cancel, deadline, half-close and a vanished client mean the same everywhere:
the handler sees CancelledError, its `finally` runs, its generator is closed.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc

from common.core.aftermath import Traceless, kept
from common.core.entropy import Entropy, mint_name
from common.core.errors import (
    BatonError,
    Cancelled,
    DeadlineExceeded,
    InternalError,
    Reason,
    Unavailable,
    Unsupported,
)
from common.observe import catalogue
from common.observe.logging import Log
from common.observe.metric import OTHER
from common.observe.registry import Metrics
from common.observe.tracing.context import TRACEPARENT, TraceContext, enter_trace, parse_traceparent
from common.rpc.deadline import DEADLINE_KEY, DeadlinePolicy, enter_call
from common.rpc.guard import decode
from common.rpc.identity import NAMES_KEY, check_caller
from common.rpc.status import shorten, status_code, trailing_metadata
from common.rpc.uploads import Uploads

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
    Context = grpc.aio.ServicerContext[Any, Any]

MAX_METHOD_CHARS = 128


class Boundary(grpc.aio.ServerInterceptor):
    """Wraps what a servicer registered. Writer: the event loop's thread.

    With a `cluster`, a handler runs only for callers whose certificate may call it. With `upload_s`, a request must
    arrive so soon after its call, and only so many may be on their way (uploads.py): until then each lies in memory.
    """

    def __init__(
        self,
        *,
        deadlines: DeadlinePolicy,
        entropy: Entropy,
        log: Log,
        metrics: Metrics | None = None,
        cluster: str = "",
        upload_s: float | None = None,
    ) -> None:
        self._cluster = cluster
        self._uploads = None if upload_s is None else Uploads(within_s=upload_s)
        self._metrics = metrics
        self._deadlines = deadlines
        self._entropy = entropy
        self._log = log
        self._running: set[asyncio.Task[Any]] = set()
        self._ended: set[asyncio.Task[Any]] = set()

    async def end_calls(self, grace_s: float) -> None:
        """Waits for running handlers, then ends those that are left: their callers get UNAVAILABLE, DRAINING."""
        if not self._running:
            return
        await asyncio.wait(tuple(self._running), timeout=grace_s)
        for task in tuple(self._running):
            self._ended.add(task)
            task.cancel()

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        handler = await continuation(handler_call_details)
        if handler is None:
            return self._unknown(handler_call_details.method)
        method = handler_call_details.method
        if handler.request_streaming:
            assert handler.response_streaming, f"{method}: client streams answer with a stream in Baton"
            return grpc.stream_stream_rpc_method_handler(
                self._both_stream(handler, method), None, handler.response_serializer
            )
        if self._uploads is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._uploaded(handler, method, self._uploads), None, handler.response_serializer
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(handler, method), None, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(self._unary(handler, method), None, handler.response_serializer)

    def _unary(self, handler: Any, method: str) -> "Callable[[bytes, Context], Awaitable[Any]]":
        async def answer(raw: bytes, context: "Context") -> Any:
            async with Traceless(), self._call(method, context):
                return await handler.unary_unary(decode(raw, handler.request_deserializer, method), context)

        return answer

    def _stream(self, handler: Any, method: str) -> "Callable[[bytes, Context], Awaitable[None]]":
        async def answer(raw: bytes, context: "Context") -> None:
            async with Traceless(), self._call(method, context):
                request = decode(raw, handler.request_deserializer, method)
                await _pump(handler.unary_stream(request, context), context)

        return answer

    def _uploaded(
        self, handler: Any, method: str, uploads: Uploads
    ) -> "Callable[[AsyncIterator[bytes], Context], Awaitable[None]]":
        """`_unary` or `_stream`, for a caller who sends the one request as a stream does: grpc waits for ever for a
        message, and tells nobody. On the wire the kinds are the same."""

        async def answer(raws: AsyncIterator[bytes], context: "Context") -> None:
            async with Traceless(), self._call(method, context):
                request = decode(await uploads.first(raws, method), handler.request_deserializer, method)
                if handler.response_streaming:
                    await _pump(handler.unary_stream(request, context), context)
                else:
                    await context.write(await handler.unary_unary(request, context))

        return answer

    def _both_stream(self, handler: Any, method: str) -> "Callable[[AsyncIterator[bytes], Context], Awaitable[None]]":
        async def decoded(raws: AsyncIterator[bytes]) -> AsyncGenerator[Any, None]:
            async for raw in raws:
                yield decode(raw, handler.request_deserializer, method)

        async def answer(raws: AsyncIterator[bytes], context: "Context") -> None:
            async with Traceless(), self._call(method, context), aclosing(decoded(raws)) as requests:
                await _pump(handler.stream_stream(requests, context), context)

        return answer

    @asynccontextmanager
    async def _call(self, method: str, context: "Context") -> AsyncIterator[None]:
        allowed_s = self._deadlines.allowed_s(method, context.time_remaining())
        if allowed_s is not None:
            context.set_trailing_metadata(((DEADLINE_KEY, str(round(allowed_s * 1000))),))
        limit = asyncio.timeout_at(enter_call(allowed_s))
        enter_trace(_trace_of(context))
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        code = grpc.StatusCode.OK
        try:
            async with limit:
                if self._cluster:
                    check_caller(method, context.auth_context().get(NAMES_KEY, ()), self._cluster)
                yield
        except (Exception, asyncio.CancelledError) as error:  # the edge of every handler
            failure = self._failure(error, method, has_expired=limit.expired())
            code = _code_of(error, context) if failure is None else status_code(failure)
            if failure is None:
                raise
            try:
                await _fail(context, failure)
            finally:
                del failure  # its trace leads here
        finally:
            self._running.discard(task)
            self._ended.discard(task)
            self._count(method, code)

    def _failure(self, error: BaseException, method: str, *, has_expired: bool) -> BatonError | None:
        """What the caller is told; None where the call is over already, and `error` goes on to grpc."""
        task = asyncio.current_task()
        assert task is not None
        match error:
            case grpc.aio.AbortError():
                return None
            case BatonError():
                return error
            case asyncio.CancelledError():
                if task in self._ended:
                    task.uncancel()
                    return Unavailable(message="this process is stopping", reason=Reason.DRAINING)
                # A handler that raises it without having been cancelled would leave the client waiting for ever.
                return None if task.cancelling() > 0 else self._unexpected(method, error)
            case _ if _is_gone(error):
                return Cancelled(message=f"{method}: the caller is gone")
            case ExceptionGroup():
                return _only_error(error) or self._unexpected(method, error)
            case _ if has_expired:
                return DeadlineExceeded(message=f"{method}: deadline exceeded")
            case _:
                return self._unexpected(method, error)

    def _count(self, method: str, code: grpc.StatusCode) -> None:
        if self._metrics is not None:
            self._metrics.add(catalogue.RPCS, method=method, code=code.name)

    def _unknown(self, method: str) -> "Handler":
        """Says so with the details that every refusal has. Its name is the caller's invention: no label of a metric."""

        async def answer(raws: AsyncIterator[bytes], context: "Context") -> None:
            self._count(OTHER, grpc.StatusCode.UNIMPLEMENTED)
            await _fail(context, Unsupported(message=f"{method[:MAX_METHOD_CHARS]} is not served here"))

        return grpc.stream_stream_rpc_method_handler(answer)

    def _unexpected(self, method: str, error: BaseException) -> InternalError:
        """Logs a bug once, under an id; the caller gets the id and nothing of the text."""
        name = mint_name(self._entropy, "err")
        self._log.error("rpc_failed", method=method, error_id=name, exc_info=error)
        return InternalError(message=f"internal error {name}; the log has the details", facts={"error_id": name})


def _trace_of(context: "Context") -> TraceContext | None:
    """Whose span this call is part of, by the caller's word."""
    for key, value in context.invocation_metadata() or ():
        if key == TRACEPARENT and isinstance(value, str):
            return parse_traceparent(value)
    return None


async def _pump(responses: Any, context: "Context") -> None:
    """Drives a streaming handler, generator or coroutine that writes by itself, and closes it on every way out."""
    if inspect.isawaitable(responses):
        await responses
        return
    async with aclosing(responses) as stream:
        async for response in stream:
            await context.write(response)


def _only_error(group: ExceptionGroup[Exception]) -> BatonError | None:
    """What a handler's task group wrapped: one BatonError, if it is nothing else."""
    if len(group.exceptions) != 1:
        return None
    (error,) = group.exceptions
    if isinstance(error, ExceptionGroup):
        return _only_error(error)
    return error if isinstance(error, BatonError) else None


def _is_gone(error: BaseException) -> bool:
    """Nothing but grpc's own complaint that a header or a message could not be written: nobody is there to read it."""
    if isinstance(error, ExceptionGroup):
        return all(map(_is_gone, error.exceptions))
    return isinstance(error, grpc.aio.InternalError)


def _code_of(error: BaseException, context: "Context") -> grpc.StatusCode:
    """How a call ended that this boundary did not end itself: aborted by its handler, or given up by its caller."""
    if isinstance(error, asyncio.CancelledError):
        return grpc.StatusCode.CANCELLED
    number = context.code()
    return next((code for code in grpc.StatusCode if number in (code, code.value[0])), grpc.StatusCode.UNKNOWN)


async def _fail(context: "Context", error: BatonError) -> None:
    """Ends the call with `error`. grpc keeps its AbortError with the call, and raises it when the handler has returned:
    without a trace, which would lead from there to the request and its error, and back to the call.

    A status cannot be sent when the caller is gone, or reads so little that a message is stuck in front of it. Then the
    call just ends, as cancelled: grpc resets the stream.
    """
    already = tuple(context.trailing_metadata() or ())
    try:
        await context.abort(status_code(error), shorten(error.message), (*already, *trailing_metadata(error)))
    except grpc.aio.AbortError as aborted:
        kept(aborted)
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from error
