"""What went wrong, as OpenAI's error object: one shape for answers and for events in a stream."""

import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from common.core.errors import BatonError, InvalidRequest, Reason, Refused

CLIENT_CLOSED = 499
"""Nobody reads it: for the log and the metrics."""

HEAD_FACT = "head"
IS_LATE = {"body": "late"}
"""Marks the error of a client that did not send all of its request in time."""

IS_PACKED = {"body": "compressed"}
"""Marks the error of a client that compressed its request."""

REFUSAL = "invalid: "
"""How a router begins a message that lists wrong fields."""

MAX_TOLD = 4
"""Chosen: wrong fields that a message spells out; all are in `violations`."""

Names = Mapping[str, str]

_STATUS = {
    Reason.MESSAGE_TOO_LARGE: 413,
    Reason.UNAUTHENTICATED: 401,
    Reason.PERMISSION_DENIED: 403,
    Reason.NO_WORKERS: 503,
}
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    504: "timeout_error",
}
_FIELDS = (
    ("sampling.", ""),
    ("chat.messages", "messages"),
    ("chat.continues_last", "continue_final_message"),
    ("chat.tools", "tools"),
    ("token_ids.ids", "prompt"),
    ("text", "prompt"),
)
"""How a field of the gRPC request is called here: the first prefix that fits."""


def status_of(error: BatonError) -> int:
    """By the reason first: it tells apart what shares a class."""
    if error.facts.get(HEAD_FACT):
        return 431
    if IS_LATE.items() <= error.facts.items():
        return 408
    if IS_PACKED.items() <= error.facts.items():
        return 415
    return _STATUS.get(error.reason, error.http_status)


def error_object(error: BatonError, names: Names = MappingProxyType({})) -> dict[str, Any]:
    """`{"error": {...}}`. Every violation is in `violations`; `param` is the first."""
    status = status_of(error)
    violations = error.violations if isinstance(error, InvalidRequest) else ()
    body: dict[str, Any] = {
        "message": _message(error, names),
        "type": _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error"),
        "param": param_of(violations[0].field, names) if violations else None,
        "code": error.reason.value.lower(),
    }
    if violations:
        body["violations"] = [
            {"param": param_of(each.field, names), "message": each.description} for each in violations
        ]
    return {"error": body}


def error_body(error: BatonError, names: Names = MappingProxyType({})) -> bytes:
    return json.dumps(error_object(error, names), ensure_ascii=False).encode()


def error_headers(error: BatonError) -> dict[str, str]:
    """Retry-After in whole seconds, where trying again later may help; who to be, where nobody was named."""
    headers: dict[str, str] = {}
    status = status_of(error)
    if error.retry_after_s is not None or status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s or 1.0)))
    if status == HTTPStatus.NOT_IMPLEMENTED:
        headers["x-should-retry"] = "false"  # OpenAI's libraries try every 5xx again, and this one will not change
    if status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        headers["accept-encoding"] = "identity"
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return headers


def param_of(field: str, names: Names = MappingProxyType({})) -> str:
    """A field of the gRPC request under its name in the body. `names`: of fields that this body spelled its own way."""
    if (spelled := names.get(field.partition(".")[0])) is not None:
        return spelled
    for ours, theirs in _FIELDS:
        if field.startswith(ours):
            return theirs + field[len(ours) :]
    return field


def head_too_large(num_bytes: int, num_headers: int | None = None) -> Refused:
    """Where their number is not known, the head did not come to its end."""
    message = f"the headers are over {num_bytes} bytes" + (f", or more than {num_headers}" if num_headers else "")
    return Refused(message=message, reason=Reason.MESSAGE_TOO_LARGE, facts={HEAD_FACT: "too large"})


def too_large(limit: int) -> Refused:
    return Refused(message=f"the body is over {limit} bytes: send less", reason=Reason.MESSAGE_TOO_LARGE)


def _message(error: BatonError, asked: Names) -> str:
    """A router's refusal names fields only: what is wrong with each stands beside it, for clients that show no more."""
    violations = error.violations if isinstance(error, InvalidRequest) else ()
    if not violations:
        return error.message
    names = {each.field: param_of(each.field, asked) for each in violations}
    if error.message.startswith(REFUSAL):
        told = "; ".join(f"{names[each.field]}: {each.description}" for each in violations[:MAX_TOLD])
        return told if len(violations) <= MAX_TOLD else f"{told}; and {len(violations) - MAX_TOLD} more"
    message = error.message
    for ours in sorted(names, key=len, reverse=True):
        message = message.replace(ours, names[ours])
    return message
