"""Errors leaving a process: BatonError to google.rpc.Status and trailing metadata.

A status always carries ErrorInfo; INVALID_ARGUMENT carries BadRequest, RESOURCE_EXHAUSTED QuotaFailure and RetryInfo,
UNAVAILABLE RetryInfo. The whole of it travels in trailing metadata, so it is kept under MAX_STATUS_BYTES: a client
drops a response whose metadata is over its limit, and with it the explanation.
"""

from collections.abc import Mapping

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from common.core.errors import BatonError, FieldViolation, InvalidRequest, Refused

DOMAIN = "baton"
DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"

MAX_STATUS_BYTES = 4096
MAX_TEXT = 512
MAX_FACTS = 16
DEFAULT_RETRY_S = 1.0
"""Chosen: long enough for a heartbeat to change the picture, short enough for a person not to notice."""

Metadata = tuple[tuple[str, str | bytes], ...]


def to_status(error: BatonError) -> status_pb2.Status:
    """The rich status of `error`, within MAX_STATUS_BYTES.

    Violations that do not fit are counted, not listed; after them the facts are left out.
    """
    violations = list(error.violations) if isinstance(error, InvalidRequest) else []
    if not violations:  # the message as a whole, or a fault that only a later stage could see
        violations = [FieldViolation(field="", description=error.message)]
    facts = dict(list(error.facts.items())[:MAX_FACTS])
    listed = len(violations)
    status = _build(error, facts, violations, listed)
    while status.ByteSize() > MAX_STATUS_BYTES and listed > 0:
        listed //= 2
        status = _build(error, facts, violations, listed)
    return status if status.ByteSize() <= MAX_STATUS_BYTES else _build(error, {}, violations, 0)


def trailing_metadata(error: BatonError) -> Metadata:
    """What travels beside code and message."""
    status = (DETAILS_KEY, to_status(error).SerializeToString())
    if (retry := _retry_after_s(error)) is None:
        return (status,)
    return (status, (PUSHBACK_KEY, str(round(retry * 1000))))


def status_code(error: BatonError) -> grpc.StatusCode:
    return grpc.StatusCode[error.grpc_code]


def _build(
    error: BatonError, facts: Mapping[str, str], violations: list[FieldViolation], listed: int
) -> status_pb2.Status:
    status = status_pb2.Status(code=status_code(error).value[0], message=shorten(error.message))
    bounded = {key[:64]: value[:128] for key, value in facts.items()}
    _pack(status, error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=bounded))
    if error.grpc_code == "INVALID_ARGUMENT":
        bad = error_details_pb2.BadRequest()
        for violation in violations[:listed]:
            bad.field_violations.add(field=violation.field[:128], description=shorten(violation.description))
        if listed < len(violations):
            bad.field_violations.add(field="", description=f"and {len(violations) - listed} more violations")
        _pack(status, bad)
    if error.grpc_code == "RESOURCE_EXHAUSTED":
        subject = error.quota_subject if isinstance(error, Refused) else ""
        quota = error_details_pb2.QuotaFailure()
        quota.violations.add(subject=(subject or DOMAIN)[:128], description=shorten(error.message))
        _pack(status, quota)
    if (retry := _retry_after_s(error)) is not None:
        _pack(status, error_details_pb2.RetryInfo(retry_delay=_duration(retry)))
    return status


def _retry_after_s(error: BatonError) -> float | None:
    if error.retry_after_s is not None:
        return max(error.retry_after_s, 0.0)
    return DEFAULT_RETRY_S if error.grpc_code in {"RESOURCE_EXHAUSTED", "UNAVAILABLE"} else None


def _pack(status: status_pb2.Status, detail: Message) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def shorten(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
