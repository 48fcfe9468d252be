"""Ceilings and promises of the line, out of the configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.core.ids import TenantId
from common.core.request import Priority

RANK = {Priority.INTERACTIVE: 0, Priority.STANDARD: 1, Priority.BATCH: 2}
"""Who waits for whom: the lower goes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassLimits:
    """Of one class: how many may wait, with how many prompt tokens, and for how long waiting makes sense.

    `ttft_s` is the class's promise: new requests are shed as the predicted wait comes near it.
    """

    max_queue: int
    max_tokens: int = 1 << 40
    ttft_s: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantTerms:
    """What a tenant may use, on all routers together. None: as much as there is. `weight`: its share among others."""

    weight: float = 1.0
    requests_per_s: float | None = None
    tokens_per_s: float | None = None
    max_streams: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """`named` tenants keep their state for ever; of others, at most `max_tenants` have one at a time."""

    default: TenantTerms = TenantTerms()
    named: Mapping[TenantId, TenantTerms] = field(default_factory=dict)
    max_tenants: int = 1024

    def terms(self, tenant: TenantId) -> TenantTerms:
        return self.named.get(tenant, self.default)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """Ceilings of the queue, per class, and of what is placed at the same time."""

    classes: Mapping[Priority, ClassLimits]
    max_active: int
    tenants: TenantLimits = TenantLimits()
    absence_grace_s: float = 10.0
    """How long a new request waits for a first decode worker before UNAVAILABLE. Chosen: a process restarts in it."""
