"""What a call's failure meant."""

from dataclasses import dataclass, field

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DETAILS_KEY = "grpc-status-details-bin"


@dataclass
class BatonCallError(Exception):
    """One failed call. `reason` is a name of the error catalogue (protos/baton/v1/errors.proto), or the code's own."""

    code: str
    reason: str
    message: str
    retry_after_s: float | None = None
    violations: dict[str, str] = field(default_factory=dict)
    """Field to what is wrong with it, where the request was invalid."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def as_call_error(error: grpc.RpcError) -> BatonCallError:
    """Of both kinds of stubs: they share their methods."""
    call: grpc.Call = error  # type: ignore[assignment]  # every RpcError that a stub raises is a Call too
    told = BatonCallError(code=call.code().name, reason=call.code().name, message=call.details() or "")
    for packed in _status(call).details:
        info, retry, bad = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
        if packed.Unpack(info):
            told.reason = info.reason
        elif packed.Unpack(retry):
            told.retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
        elif packed.Unpack(bad):
            told.violations = {each.field: each.description for each in bad.field_violations}
    return told


def _status(call: grpc.Call) -> status_pb2.Status:
    for key, value in call.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return status_pb2.Status()
    return status_pb2.Status()
