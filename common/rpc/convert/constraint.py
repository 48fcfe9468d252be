"""What an answer must look like, from clients and to workers."""

import json

from common.core.constraint import Constraint, ConstraintKind
from protos.baton.v1 import types_pb2


def constraint_to_wire(constraint: Constraint) -> types_pb2.Constraint:
    message = types_pb2.Constraint(after=constraint.after)
    match constraint.kind:
        case ConstraintKind.JSON_OBJECT:
            message.json_object = True
        case ConstraintKind.CHOICE:
            message.choice.texts.extend(json.loads(constraint.source))
        case _:
            setattr(message, constraint.kind.value, constraint.source)
    return message


def constraint_from_wire(message: types_pb2.Constraint) -> Constraint | None:
    """None where nothing is asked for."""
    form = message.WhichOneof("form")
    if form is None:
        return None
    kind = ConstraintKind(form)
    match kind:
        case ConstraintKind.JSON_OBJECT:
            source = ""
        case ConstraintKind.CHOICE:
            source = json.dumps(list(message.choice.texts))
        case _:
            source = str(getattr(message, form))
    return Constraint(kind=kind, source=source, after=message.after)
