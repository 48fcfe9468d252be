"""Who asks, and what they may: decided from the credential, never from the request."""

from dataclasses import dataclass, field

from common.core.errors import InvalidRequest, Reason
from protos.baton.v1 import generation_pb2, types_pb2

CEILINGS = {
    "interactive": types_pb2.PRIORITY_INTERACTIVE,
    "standard": types_pb2.PRIORITY_STANDARD,
    "batch": types_pb2.PRIORITY_BATCH,
}
"""The most urgent class that a credential allows, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What a credential grants. Without credentials configured everybody is the same tenant and may do everything."""

    tenant: str = ""
    models: frozenset[str] = field(default_factory=frozenset)
    """Empty: every model."""
    ceiling: types_pb2.Priority.ValueType = types_pb2.PRIORITY_INTERACTIVE
    cache_salt: str = ""
    """Set where the credential keeps its cached prefixes from others of its tenant."""

    def may_use(self, model: str) -> bool:
        return not self.models or model in self.models

    def sign(self, request: generation_pb2.GenerateRequest, *, model: str) -> None:
        """Writes into the request who is asking, over whatever it said.

        Raises InvalidRequest (PERMISSION_DENIED) for a model or a class above what is granted.
        """
        if not self.may_use(model):
            raise denied("this credential may not use the model")
        asked = request.priority or types_pb2.PRIORITY_STANDARD
        if asked < self.ceiling:
            raise denied("this credential may not ask for so urgent a class")
        request.tenant = self.tenant
        if self.cache_salt:
            request.cache_salt = f"{self.cache_salt}:{request.cache_salt}"


ANYBODY = Caller()


def denied(message: str) -> InvalidRequest:
    return InvalidRequest(message=message, reason=Reason.PERMISSION_DENIED)


def unauthenticated() -> InvalidRequest:
    """One sentence for every reason, so that guessing learns nothing."""
    message = "no valid credential: send `Authorization: Bearer` with a key of this server"
    return InvalidRequest(message=message, reason=Reason.UNAUTHENTICATED)
