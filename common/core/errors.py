"""Every error Baton raises on purpose.

BatonError
├── InvalidRequest            INVALID_ARGUMENT     400  the client's input; all violations at once
│   ├── ContextLengthExceeded INVALID_ARGUMENT     400
│   └── Forbidden             PERMISSION_DENIED    403  the caller's certificate does not stand for this
├── MalformedMessage          INVALID_ARGUMENT     400  bytes that are not the protobuf they claim to be
├── Unsupported               UNIMPLEMENTED        501
├── NotFound                  NOT_FOUND            404  model, request or reservation; `reason` says which
├── AlreadyExists             ALREADY_EXISTS       409
├── Refused                   RESOURCE_EXHAUSTED   429  queue full, no pages, shed: retry later, RetryInfo says when
├── Unavailable               UNAVAILABLE          503  no workers, draining, directory away, channel broken: retry
├── DeadlineExceeded          DEADLINE_EXCEEDED    504
├── Cancelled                 CANCELLED            499
├── Fenced                    ABORTED              409  stale epoch, generation or attempt: the caller is a zombie
├── Mismatch                  FAILED_PRECONDITION  400  layout, model or scheme differ: operators must act
├── TransferFailed            ABORTED              409  pages did not arrive whole; `reason` says how
├── StartupError              FAILED_PRECONDITION  500  configuration or model refuse to load; exit code 78
└── InternalError             INTERNAL             500  a bug

A message says what failed, with ids and numbers, and what the reader can do. Raised where it is known, translated to
the wire once, in common/rpc.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Reason(StrEnum):
    """Stable names on the wire: the values of baton.v1.ErrorReason without their prefix."""

    INVALID_REQUEST = "INVALID_REQUEST"
    CONTEXT_LENGTH_EXCEEDED = "CONTEXT_LENGTH_EXCEEDED"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    MALFORMED_MESSAGE = "MALFORMED_MESSAGE"
    QUEUE_FULL = "QUEUE_FULL"
    MEMORY_PRESSURE = "MEMORY_PRESSURE"
    LOAD_SHED = "LOAD_SHED"
    RATE_LIMITED = "RATE_LIMITED"
    NO_PAGES = "NO_PAGES"
    NO_WORKERS = "NO_WORKERS"
    DRAINING = "DRAINING"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    REQUEST_EXISTS = "REQUEST_EXISTS"
    REQUEST_NOT_FOUND = "REQUEST_NOT_FOUND"
    SLOW_READER = "SLOW_READER"
    STALE_EPOCH = "STALE_EPOCH"
    STALE_GENERATION = "STALE_GENERATION"
    LAYOUT_MISMATCH = "LAYOUT_MISMATCH"
    DIGEST_MISMATCH = "DIGEST_MISMATCH"
    RESERVATION_NOT_FOUND = "RESERVATION_NOT_FOUND"
    TRANSFER_FAILED = "TRANSFER_FAILED"
    TRANSFER_TIMEOUT = "TRANSFER_TIMEOUT"
    CHANNEL_BROKEN = "CHANNEL_BROKEN"
    TICKET_INVALID = "TICKET_INVALID"
    POISON_REQUEST = "POISON_REQUEST"
    MODEL_LOAD_FAILED = "MODEL_LOAD_FAILED"
    CONFIG_INVALID = "CONFIG_INVALID"
    DIRECTORY_UNAVAILABLE = "DIRECTORY_UNAVAILABLE"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNSUPPORTED = "UNSUPPORTED"
    INTERNAL = "INTERNAL"
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    DEADLINE_UNREACHABLE = "DEADLINE_UNREACHABLE"
    RESUME_EXPIRED = "RESUME_EXPIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """One field of a request that cannot be accepted."""

    field: str
    description: str


@dataclass(kw_only=True)
class BatonError(Exception):
    """Base of the tree. `facts` are ids and numbers, never prompt text, addresses or paths."""

    message: str
    reason: Reason = Reason.INTERNAL
    facts: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None

    grpc_code = "INTERNAL"
    http_status = 500
    is_retryable = False

    def __post_init__(self) -> None:
        Exception.__init__(self, self.message)

    def __str__(self) -> str:
        return self.message


ELSEWHERE_FACT = "elsewhere"
"""Of a refusal that is one router's own: another one may have room for the tenant."""


@dataclass(kw_only=True)
class InvalidRequest(BatonError):
    """The client must change the request. Carries every violation found, not the first."""

    reason: Reason = Reason.INVALID_REQUEST
    violations: tuple[FieldViolation, ...] = ()

    grpc_code = "INVALID_ARGUMENT"
    http_status = 400


@dataclass(kw_only=True)
class ContextLengthExceeded(InvalidRequest):
    """Prompt plus max_tokens do not fit the model's context."""

    reason: Reason = Reason.CONTEXT_LENGTH_EXCEEDED


@dataclass(kw_only=True)
class Forbidden(InvalidRequest):
    """Somebody known, and not allowed to do this."""

    reason: Reason = Reason.PERMISSION_DENIED

    grpc_code = "PERMISSION_DENIED"
    http_status = 403


@dataclass(kw_only=True)
class MalformedMessage(BatonError):
    """Bytes that do not decode."""

    reason: Reason = Reason.MALFORMED_MESSAGE

    grpc_code = "INVALID_ARGUMENT"
    http_status = 400


@dataclass(kw_only=True)
class Unsupported(BatonError):
    """Known and named, but not served by this release."""

    reason: Reason = Reason.UNSUPPORTED

    grpc_code = "UNIMPLEMENTED"
    http_status = 501


@dataclass(kw_only=True)
class NotFound(BatonError):
    """A model, request or reservation that is not here."""

    reason: Reason = Reason.REQUEST_NOT_FOUND

    grpc_code = "NOT_FOUND"
    http_status = 404


@dataclass(kw_only=True)
class AlreadyExists(BatonError):
    """A request id that is in use."""

    reason: Reason = Reason.REQUEST_EXISTS

    grpc_code = "ALREADY_EXISTS"
    http_status = 409


@dataclass(kw_only=True)
class Refused(BatonError):
    """A limit was reached. Overload, not ill health: never counts against a worker."""

    reason: Reason = Reason.QUEUE_FULL
    quota_subject: str = ""

    grpc_code = "RESOURCE_EXHAUSTED"
    http_status = 429
    is_retryable = True


@dataclass(kw_only=True)
class Unavailable(BatonError):
    """Nobody home for now."""

    reason: Reason = Reason.NO_WORKERS

    grpc_code = "UNAVAILABLE"
    http_status = 503
    is_retryable = True


@dataclass(kw_only=True)
class DeadlineExceeded(BatonError):
    """The client's time is up."""

    reason: Reason = Reason.DEADLINE_EXCEEDED

    grpc_code = "DEADLINE_EXCEEDED"
    http_status = 504


@dataclass(kw_only=True)
class Cancelled(BatonError):
    """The client, or an operator, cancelled the request."""

    reason: Reason = Reason.CANCELLED

    grpc_code = "CANCELLED"
    http_status = 499


@dataclass(kw_only=True)
class Fenced(BatonError):
    """The caller acts for an incarnation, generation or attempt that is over."""

    reason: Reason = Reason.STALE_EPOCH

    grpc_code = "ABORTED"
    http_status = 409


@dataclass(kw_only=True)
class Mismatch(BatonError):
    """Two parties do not fit: layout, model or hash scheme. The message is a readable difference."""

    reason: Reason = Reason.LAYOUT_MISMATCH

    grpc_code = "FAILED_PRECONDITION"
    http_status = 400


@dataclass(kw_only=True)
class TransferFailed(BatonError):
    """Pages did not arrive whole. Handled by the router: same promise, another prefill."""

    reason: Reason = Reason.TRANSFER_FAILED

    grpc_code = "ABORTED"
    http_status = 409
    is_retryable = True


@dataclass(kw_only=True)
class StartupError(BatonError):
    """Configuration or model refuse to load. The process exits with code 78 and this message."""

    reason: Reason = Reason.CONFIG_INVALID

    grpc_code = "FAILED_PRECONDITION"
    http_status = 500


@dataclass(kw_only=True)
class InternalError(BatonError):
    """A bug in Baton."""
