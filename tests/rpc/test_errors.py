"""Every error of the tree arrives as what it was; what is no answer of ours is told apart."""

import grpc
import pytest

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
from common.rpc.errors import ORIGIN_FACT, TRANSPORT, from_rpc_error
from common.rpc.status import DETAILS_KEY, MAX_STATUS_BYTES, PUSHBACK_KEY, status_code, to_status, trailing_metadata

FIELDS = (FieldViolation(field="prompt", description="empty"),)
ERRORS: list[BatonError] = [
    InvalidRequest(message="m", violations=FIELDS),
    ContextLengthExceeded(message="m", violations=FIELDS),
    Forbidden(message="m"),
    MalformedMessage(message="m"),
    Unsupported(message="m"),
    NotFound(message="m"),
    NotFound(message="m", reason=Reason.MODEL_NOT_FOUND),
    NotFound(message="m", reason=Reason.RESERVATION_NOT_FOUND),
    AlreadyExists(message="m"),
    Refused(message="m", quota_subject="queue", retry_after_s=0.25),
    Refused(message="m", quota_subject="pages", reason=Reason.NO_PAGES, retry_after_s=2.0),
    Unavailable(message="m", retry_after_s=1.5),
    Unavailable(message="m", reason=Reason.DRAINING, retry_after_s=1.0),
    DeadlineExceeded(message="m"),
    Cancelled(message="m"),
    Fenced(message="m"),
    Fenced(message="m", reason=Reason.STALE_GENERATION),
    Mismatch(message="m"),
    TransferFailed(message="m"),
    TransferFailed(message="m", reason=Reason.TRANSFER_TIMEOUT),
    TransferFailed(message="m", reason=Reason.DIGEST_MISMATCH),
    StartupError(message="m"),
    InternalError(message="m", facts={"error_id": "err-1"}),
    InternalError(message="m", reason=Reason.POISON_REQUEST),
]


def arrive(error: BatonError) -> BatonError:
    metadata = grpc.aio.Metadata(*trailing_metadata(error))
    return from_rpc_error(grpc.aio.AioRpcError(status_code(error), grpc.aio.Metadata(), metadata, error.message))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__name__}-{error.reason}")
def test_an_error_arrives_as_what_it_was(error: BatonError) -> None:
    assert arrive(error) == error


def test_every_class_of_the_tree_is_covered() -> None:
    def below(kind: type[BatonError]) -> set[type[BatonError]]:
        return {kind, *(deeper for sub in kind.__subclasses__() for deeper in below(sub))}

    # A room may refine an error for itself; what crosses the wire is the tree's.
    tree = {kind for kind in below(BatonError) - {BatonError} if kind.__module__ == BatonError.__module__}
    assert tree == {type(error) for error in ERRORS}


@pytest.mark.parametrize("kind", [Refused, Unavailable])
def test_what_may_be_tried_again_always_says_when(kind: type[BatonError]) -> None:
    assert PUSHBACK_KEY in dict(trailing_metadata(kind(message="m")))
    retry_after_s = arrive(kind(message="m")).retry_after_s
    assert retry_after_s is not None
    assert retry_after_s > 0


def test_a_status_fits_into_metadata_however_long_its_parts() -> None:
    facts = {f"fact{index}": "\u4e2d" * 10_000 for index in range(100)}
    violations = tuple(FieldViolation(field="f" * 1000, description="\u4e2d" * 1000) for _ in range(1000))
    error = InvalidRequest(message="\u4e2d" * 100_000, facts=facts, violations=violations)
    assert to_status(error).ByteSize() <= MAX_STATUS_BYTES


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, Unavailable, Reason.CHANNEL_BROKEN),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded, Reason.DEADLINE_EXCEEDED),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Refused, Reason.MESSAGE_TOO_LARGE),
        (grpc.StatusCode.UNIMPLEMENTED, Unsupported, Reason.UNSUPPORTED),
        (grpc.StatusCode.UNKNOWN, InternalError, Reason.INTERNAL),
    ],
)
def test_a_status_without_our_details_is_the_transports(
    code: grpc.StatusCode, kind: type[BatonError], reason: Reason
) -> None:
    bare = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "socket closed")
    error = from_rpc_error(bare, peer="worker w1")
    assert type(error) is kind
    assert (error.reason, error.facts[ORIGIN_FACT]) == (reason, TRANSPORT)
    assert "worker w1" in error.message
    assert "socket" not in error.message


def test_details_that_do_not_decode_are_ignored() -> None:
    metadata = grpc.aio.Metadata((DETAILS_KEY, b"\xff\xff"))
    error = from_rpc_error(grpc.aio.AioRpcError(grpc.StatusCode.ABORTED, grpc.aio.Metadata(), metadata, "x"))
    assert isinstance(error, Fenced)


def test_an_invalid_argument_always_names_a_violation() -> None:
    """Also one that was raised without any: then the message is it."""
    (violation,) = arrive(ContextLengthExceeded(message="needs 9 pages")).violations  # type: ignore[attr-defined]
    assert violation.description == "needs 9 pages"
