"""Checks and enum spellings that several nouns share."""

from common.core.errors import FieldViolation, InvalidRequest
from common.core.request import FinishReason, Priority
from common.core.worker import Role
from protos.baton.v1 import types_pb2

PRIORITIES = {
    Priority.INTERACTIVE: types_pb2.PRIORITY_INTERACTIVE,
    Priority.STANDARD: types_pb2.PRIORITY_STANDARD,
    Priority.BATCH: types_pb2.PRIORITY_BATCH,
}
FINISHES = {
    FinishReason.STOP: types_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: types_pb2.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: types_pb2.FINISH_REASON_CANCELLED,
    FinishReason.ERROR: types_pb2.FINISH_REASON_ERROR,
}
ROLES = {Role.PREFILL: types_pb2.ROLE_PREFILL, Role.DECODE: types_pb2.ROLE_DECODE}

_PRIORITY_OF = {wire: core for core, wire in PRIORITIES.items()}
_FINISH_OF = {wire: core for core, wire in FINISHES.items()}
_ROLE_OF = {wire: core for core, wire in ROLES.items()}


def refuse(field: str, description: str) -> InvalidRequest:
    """One violation, to raise."""
    return InvalidRequest(
        message=f"{field}: {description}", violations=(FieldViolation(field=field, description=description),)
    )


def require(holds: bool, field: str, description: str) -> None:
    """Raises InvalidRequest for `field` unless `holds`."""
    if not holds:
        raise refuse(field, description)


def priority_from_wire(value: types_pb2.Priority.ValueType) -> Priority:
    """Unspecified is standard."""
    if value == types_pb2.PRIORITY_UNSPECIFIED:
        return Priority.STANDARD
    require(value in _PRIORITY_OF, "priority", f"unknown priority {value}")
    return _PRIORITY_OF[value]


def finish_from_wire(value: types_pb2.FinishReason.ValueType) -> FinishReason | None:
    """Unspecified is not finished."""
    if value == types_pb2.FINISH_REASON_UNSPECIFIED:
        return None
    require(value in _FINISH_OF, "finish_reason", f"unknown finish reason {value}")
    return _FINISH_OF[value]


def role_from_wire(value: types_pb2.Role.ValueType) -> Role:
    require(value in _ROLE_OF, "role", f"{value} is not the role of a worker")
    return _ROLE_OF[value]
