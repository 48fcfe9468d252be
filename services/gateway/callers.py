"""Who asks, and what they may: decided from the credential, never from the request."""

from dataclasses import dataclass

from protos.baton.v1 import generation_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What a credential grants. Without credentials configured everybody is the same tenant."""

    tenant: str = ""
    models: frozenset[str] = frozenset()
    """Empty: every model."""

    def may_use(self, model: str) -> bool:
        return not self.models or model in self.models

    def sign(self, request: generation_pb2.GenerateRequest) -> None:
        """Writes into the request who is asking, over whatever it said."""
        request.tenant = self.tenant


ANYBODY = Caller()
