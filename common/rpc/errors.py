"""Errors arriving in a process: what a failed call meant, as the BatonError that the other side raised."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from common.core.errors import (
    AlreadyExists,
    BatonError,
    Cancelled,
    ContextLengthExceeded,
    DeadlineExceeded,
    Fenced,
    FieldViolation,
    Forbidden,
    InternalError,
    InvalidRequest,
    MalformedMessage,
    Mismatch,
    NotFound,
    Reason,
    Refused,
    StartupError,
    TransferFailed,
    Unavailable,
    Unsupported,
)
from common.rpc.status import DETAILS_KEY, DOMAIN

REPLACED_FACT = "replaced"
"""Names the router that a worker does not hear any more, because another incarnation subscribed under its name."""
ORIGIN_FACT = "origin"
TRANSPORT = "transport"
"""Value of the fact `origin` when no handler answered: the connection failed, or grpc itself refused."""

_BY_REASON: dict[Reason, type[BatonError]] = {
    Reason.INVALID_REQUEST: InvalidRequest,
    Reason.CONTEXT_LENGTH_EXCEEDED: ContextLengthExceeded,
    Reason.MALFORMED_MESSAGE: MalformedMessage,
    Reason.CANCELLED: Cancelled,
    Reason.DEADLINE_EXCEEDED: DeadlineExceeded,
    Reason.UNSUPPORTED: Unsupported,
    Reason.TRANSFER_FAILED: TransferFailed,
    Reason.TRANSFER_TIMEOUT: TransferFailed,
    Reason.DIGEST_MISMATCH: TransferFailed,
    Reason.STALE_EPOCH: Fenced,
    Reason.STALE_GENERATION: Fenced,
    Reason.CONFIG_INVALID: StartupError,
    Reason.MODEL_LOAD_FAILED: StartupError,
}
_BY_CODE: dict[grpc.StatusCode, tuple[type[BatonError], Reason]] = {
    grpc.StatusCode.INVALID_ARGUMENT: (InvalidRequest, Reason.INVALID_REQUEST),
    grpc.StatusCode.UNIMPLEMENTED: (Unsupported, Reason.UNSUPPORTED),
    grpc.StatusCode.NOT_FOUND: (NotFound, Reason.REQUEST_NOT_FOUND),
    grpc.StatusCode.ALREADY_EXISTS: (AlreadyExists, Reason.REQUEST_EXISTS),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (Refused, Reason.MESSAGE_TOO_LARGE),
    grpc.StatusCode.UNAVAILABLE: (Unavailable, Reason.CHANNEL_BROKEN),
    grpc.StatusCode.DEADLINE_EXCEEDED: (DeadlineExceeded, Reason.DEADLINE_EXCEEDED),
    grpc.StatusCode.CANCELLED: (Cancelled, Reason.CANCELLED),
    grpc.StatusCode.ABORTED: (Fenced, Reason.STALE_EPOCH),
    grpc.StatusCode.FAILED_PRECONDITION: (Mismatch, Reason.LAYOUT_MISMATCH),
    grpc.StatusCode.UNAUTHENTICATED: (InvalidRequest, Reason.UNAUTHENTICATED),
    grpc.StatusCode.PERMISSION_DENIED: (Forbidden, Reason.PERMISSION_DENIED),
}


def from_rpc_error(error: grpc.aio.AioRpcError, *, peer: str = "peer") -> BatonError:
    """The BatonError that the other side raised; without one, what the transport's code means, origin=transport."""
    code = error.code()
    status = _details_of(error)
    info, details = _unpack(status)
    if info is None or info.domain != DOMAIN:
        kind, reason = _BY_CODE.get(code, (InternalError, Reason.INTERNAL))
        # grpc's own words name addresses, which are nobody's business; they stay in the cause, for the log.
        message = f"{peer}: {code.name} from the transport"
        return kind(message=message, reason=reason, facts={ORIGIN_FACT: TRANSPORT})
    reason = _reason(info.reason)
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, (InternalError, Reason.INTERNAL))[0]
    fields: dict[str, Any] = {"message": status.message, "reason": reason, "facts": dict(info.metadata)}
    fields["retry_after_s"] = details.retry_after_s
    if issubclass(kind, InvalidRequest):
        fields["violations"] = details.violations
    if issubclass(kind, Refused):
        fields["quota_subject"] = details.quota_subject
    return kind(**fields)


@contextmanager
def translated(peer: str) -> Iterator[None]:
    """Around a call: grpc's error leaves as the BatonError it stands for. Cancellation of the caller passes through.

    A channel that is closed under a call ends it with a CancelledError too, although nobody cancelled the caller.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, peer=peer) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Unavailable(
            message=f"{peer}: the channel was closed", reason=Reason.CHANNEL_BROKEN, facts={ORIGIN_FACT: TRANSPORT}
        ) from error


@dataclass(slots=True)
class _Details:
    """What the status carried beside ErrorInfo."""

    retry_after_s: float | None = None
    violations: tuple[FieldViolation, ...] = ()
    quota_subject: str = ""


def _details_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:  # a peer that cannot spell its status is judged by its code
                return status_pb2.Status()
    return status_pb2.Status()


def _unpack(status: status_pb2.Status) -> tuple[error_details_pb2.ErrorInfo | None, _Details]:
    info: error_details_pb2.ErrorInfo | None = None
    details = _Details()
    for packed in status.details:
        if packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            packed.Unpack(info)
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            packed.Unpack(retry)
            details.retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
        elif packed.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            packed.Unpack(bad)
            details.violations = tuple(
                FieldViolation(field=item.field, description=item.description) for item in bad.field_violations
            )
        elif packed.Is(error_details_pb2.QuotaFailure.DESCRIPTOR):
            quota = error_details_pb2.QuotaFailure()
            packed.Unpack(quota)
            details.quota_subject = quota.violations[0].subject if quota.violations else ""
    return info, details


def _reason(name: str) -> Reason:
    try:
        return Reason(name)
    except ValueError:  # a newer peer may know reasons that we do not
        return Reason.INTERNAL
