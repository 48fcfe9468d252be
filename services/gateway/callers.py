"""Who asks, and what they may: decided from the credential, never from the request."""

from dataclasses import dataclass

from common.core.errors import InvalidRequest, Reason
from protos.baton.v1 import generation_pb2, types_pb2
from services.gateway.schema.body import invalid, violation

CEILINGS = {
    "interactive": types_pb2.PRIORITY_INTERACTIVE,
    "standard": types_pb2.PRIORITY_STANDARD,
    "batch": types_pb2.PRIORITY_BATCH,
}
"""The most urgent class that a credential allows, by its name."""

SEPARATOR = "\x1f"
"""Between a credential's own salt and a request's: in neither of them, so that no request can spell another's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What a credential grants. Without credentials configured everybody is the same tenant and may do everything."""

    tenant: str = ""
    models: frozenset[str] | None = None
    """None: every model. Empty: none at all."""
    ceiling: types_pb2.Priority.ValueType = types_pb2.PRIORITY_INTERACTIVE
    cache_salt: str = ""
    """Set where the credential keeps its cached prefixes from others of its tenant."""

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models

    def sign(self, request: generation_pb2.GenerateRequest, *, model: str) -> None:
        """Writes into the request who is asking, over whatever it said.

        Raises InvalidRequest (PERMISSION_DENIED) for a model or a class above what is granted.
        """
        if not self.may_use(model):
            raise denied("this credential may not use the model")
        asked = request.priority or max(types_pb2.PRIORITY_STANDARD, self.ceiling)
        if asked < self.ceiling:
            raise denied("this credential may not ask for so urgent a class")
        if SEPARATOR in request.cache_salt:
            raise invalid([violation("cache_salt", "a control character has no place in it")])
        request.priority = asked
        request.tenant = self.tenant
        request.model = request.model or model  # what was allowed is what must be served
        if self.cache_salt:
            request.cache_salt = f"{self.cache_salt}{SEPARATOR}{request.cache_salt}"


ANYBODY = Caller()


def denied(message: str) -> InvalidRequest:
    return InvalidRequest(message=message, reason=Reason.PERMISSION_DENIED)


def unauthenticated() -> InvalidRequest:
    """One sentence for every reason, so that guessing learns nothing."""
    message = "no valid credential: send `Authorization: Bearer` with a key of this server"
    return InvalidRequest(message=message, reason=Reason.UNAUTHENTICATED)
