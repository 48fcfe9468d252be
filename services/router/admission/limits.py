"""Ceilings and promises of the line, out of the configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.config.config import Config
from common.config.tenants import TenantTerms, limit_or_none, parse_tenants
from common.core.ids import TenantId
from common.core.request import Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassLimits:
    """Of one class: how many may wait, with how many prompt tokens, and for how long waiting makes sense.

    `ttft_s` is the class's promise: new requests are shed as the predicted wait comes near it.
    """

    max_queue: int
    max_tokens: int = 1 << 40
    ttft_s: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """`named` tenants keep their state for ever; of others, at most `max_tenants` have one at a time."""

    default: TenantTerms = field(default_factory=TenantTerms)
    named: Mapping[TenantId, TenantTerms] = field(default_factory=dict)
    max_tenants: int = 1024

    @property
    def are_any(self) -> bool:
        """Whether anybody is limited."""
        return self.default.is_limited or any(terms.is_limited for terms in self.named.values())

    def terms(self, tenant: TenantId) -> TenantTerms:
        return self.named.get(tenant, self.default)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """Ceilings of the queue, per class, and of what is placed at the same time."""

    classes: Mapping[Priority, ClassLimits]
    max_active: int
    tenants: TenantLimits = field(default_factory=TenantLimits)
    absence_grace_s: float = 10.0
    """How long a new request waits for a first decode worker before UNAVAILABLE. Chosen: a process restarts in it."""
    hold_s: float = 0.0
    """However long nobody was there, a new request waits this long from its arrival: its waiting is what wakes a fleet
    that went to none."""

    @classmethod
    def of(cls, config: Config) -> "AdmissionLimits":
        router, admission = config.router, config.admission
        return cls(
            classes={
                Priority.INTERACTIVE: ClassLimits(
                    max_queue=router.max_queue_interactive,
                    max_tokens=admission.max_queued_tokens_interactive,
                    ttft_s=admission.ttft_interactive_s,
                ),
                Priority.STANDARD: ClassLimits(
                    max_queue=router.max_queue_standard,
                    max_tokens=admission.max_queued_tokens_standard,
                    ttft_s=admission.ttft_standard_s,
                ),
                Priority.BATCH: ClassLimits(
                    max_queue=router.max_queue_batch,
                    max_tokens=admission.max_queued_tokens_batch,
                    ttft_s=admission.ttft_batch_s,
                ),
            },
            max_active=router.max_active,
            tenants=_tenant_limits(config),
            hold_s=router.hold_s,
        )


def _tenant_limits(config: Config) -> TenantLimits:
    admission = config.admission
    default = TenantTerms(
        requests_per_s=limit_or_none(admission.tenant_requests_per_s),
        tokens_per_s=limit_or_none(admission.tenant_tokens_per_s),
        max_streams=admission.tenant_streams or None,
    )
    named = parse_tenants(admission.tenants, default)
    return TenantLimits(default=default, named=named, max_tenants=admission.max_tenants)
