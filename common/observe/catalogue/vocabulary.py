"""What lines of the catalogue are made of: whose they are, labels that many share, buckets, and one maker per kind."""

from collections.abc import Iterable

from common.core.errors import Reason
from common.core.request import Priority
from common.core.worker import Role
from common.observe.metric import Label, Metric, MetricKind, ProcessRole, closed

ROUTER = frozenset({ProcessRole.ROUTER})
PREFILL = frozenset({ProcessRole.PREFILL})
DECODE = frozenset({ProcessRole.DECODE})
GATEWAY = frozenset({ProcessRole.GATEWAY})
PLANNER = frozenset({ProcessRole.PLANNER})
WORKERS = PREFILL | DECODE
ALL = ROUTER | WORKERS | GATEWAY | PLANNER

TTFT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 20, 40, 80)
ITL_BUCKETS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5)
E2E_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
STEP_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 1, 2, 5)
TRANSFER_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
REDIS_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
TOKEN_BUCKETS = (1, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
ROW_BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)

TARGET = closed("target", Role)
PRIORITY = closed("priority", Priority)
REASON = closed("reason", Reason)
CHANNEL = closed("channel", ("cuda_ipc", "nccl", "same_host", "gloo", "loopback"))
DIRECTION = closed("direction", ("sent", "received"))


def counter(name: str, sentence: str, roles: frozenset[ProcessRole], *labels: Label, unit: str = "") -> Metric:
    return _metric(MetricKind.COUNTER, name, sentence, roles, labels, unit, ())


def gauge(name: str, sentence: str, roles: frozenset[ProcessRole], *labels: Label, unit: str = "") -> Metric:
    return _metric(MetricKind.GAUGE, name, sentence, roles, labels, unit, ())


def histogram(
    name: str,
    sentence: str,
    roles: frozenset[ProcessRole],
    buckets: tuple[float, ...],
    *labels: Label,
    unit: str = "seconds",
) -> Metric:
    return _metric(MetricKind.HISTOGRAM, name, sentence, roles, labels, unit, buckets)


def _metric(
    kind: MetricKind,
    name: str,
    sentence: str,
    roles: frozenset[ProcessRole],
    labels: Iterable[Label],
    unit: str,
    buckets: tuple[float, ...],
) -> Metric:
    return Metric(
        name=f"baton_{name}",
        kind=kind,
        sentence=sentence,
        unit=unit,
        labels=tuple(labels),
        buckets=buckets,
        roles=roles,
    )
