"""Alerts on what serving stands on: the planner, Redis, certificates, open files, logs, the model's download."""

from common.observe import catalogue as c
from common.observe.metric import Metric
from deploy.alert import Alert
from deploy.labels import BY, FULLNAME, NAMESPACE, series

DAY_S = 86_400
NOT_BATCH = 'priority!="batch"'
WAITED = f"max by (SCOPE) ({series(c.QUEUE_OLDEST_SECONDS.name, NOT_BATCH)}) > 10"
"""Somebody waits for more than ten seconds; SCOPE stands for the labels to compare by."""

KUBE = f'namespace="{NAMESPACE}"'
"""kube-state-metrics knows objects of the release by their names. Where it is not scraped, its alerts never fire."""


def _peak(metric: Metric, by: str) -> str:
    return f"max by ({by}) ({series(metric.name)})"


def _planner() -> tuple[Alert, ...]:
    by_role = f"{BY}, target"
    wanted, limit = _peak(c.PLANNER_DESIRED, by_role), _peak(c.PLANNER_LIMIT, by_role)
    # KEDA names the HPA that it makes after its own object.
    hpas = f'{KUBE},horizontalpodautoscaler=~"(keda-hpa-)?{FULLNAME}-(prefill|decode)"'
    return (
        Alert(
            name="BatonPlannerBlind",
            # The best informed of several planners decides.
            expression=f"min by ({BY}) ({series(c.PLANNER_BLIND.name)}) == 1",
            severity="ticket",
            summary="the planner sees no load",
            description="Fleets keep their size: nothing is added under load and nothing is given back.",
            hold="10m",
        ),
        Alert(
            name="BatonPlannerAtMaximum",
            expression=f"{wanted} >= {limit} and {WAITED.replace('SCOPE', by_role)}",
            severity="ticket",
            summary="{{ $labels.target }} is at its maximum of {{ $value }} workers, and requests wait",
            description="The planner wants no more than it may. Raise the maximum, or shed load.",
            hold="10m",
        ),
        Alert(
            name="BatonHpaAtMaximum",
            expression=(
                f"kube_horizontalpodautoscaler_status_desired_replicas{{{hpas}}} "
                f">= on (namespace, horizontalpodautoscaler) "
                f"kube_horizontalpodautoscaler_spec_max_replicas{{{hpas}}} "
                f"and on (namespace) {WAITED.replace('SCOPE', 'namespace')} "
                f"unless on (namespace) {_peak(c.PLANNER_DESIRED, 'namespace')}"
            ),
            severity="ticket",
            summary="{{ $labels.horizontalpodautoscaler }} is at its maximum, and requests wait",
            description="The HPA may add no worker. Raise autoscaling maxReplicas, or shed load.",
            hold="10m",
        ),
    )


def _redis() -> tuple[Alert, ...]:
    return (
        Alert(
            name="BatonRedisDown",
            expression=f"min by ({BY}) ({series(c.DIRECTORY_STALE.name)}) == 1",
            severity="ticket",
            summary="nobody reaches Redis",
            description="Serving goes on with the fleet that is known: no worker joins, and who restarts waits for it.",
            hold="2m",
        ),
        Alert(
            name="BatonRedisMemoryHigh",
            expression=(
                f"max by ({BY}) ({series(c.REDIS_MEMORY_BYTES.name)} / {series(c.REDIS_LIMIT_BYTES.name)}) > 0.8"
            ),
            severity="ticket",
            summary="Redis uses {{ $value | humanizePercentage }} of the memory it may use",
            description="At its limit it refuses writes: members and hints age until they are gone.",
            hold="10m",
        ),
    )


def _certificate(name: str, days: int, severity: str, hold: str, urgency: str) -> Alert:
    left = f"min by ({BY}, role, kind) ({series(c.CERTIFICATE_LEFT_SECONDS.name)})"
    return Alert(
        name=name,
        expression=f"{left} < {days * DAY_S}",
        severity=severity,
        summary="the {{ $labels.kind }} certificate of a {{ $labels.role }} ends in {{ $value | humanizeDuration }}",
        description=f"After its end no new connection is made, and serving stops. {urgency}",
        hold=hold,
    )


def _system() -> tuple[Alert, ...]:
    """What the machine or the container gives to a process."""
    by_role = f"{BY}, role"
    return (
        Alert(
            name="BatonFilesShort",
            expression=(
                f"max by ({by_role}) ({series(c.PROCESS_FILES.name)} / {series(c.PROCESS_MAX_FILES.name)}) > 0.8"
            ),
            severity="ticket",
            summary="a {{ $labels.role }} has {{ $value | humanizePercentage }} of its files and connections open",
            description="At its limit it takes no connection and makes none: clients hang, peers look dead.",
            hold="5m",
        ),
        Alert(
            name="BatonLogsLost",
            expression=f"sum by ({by_role}) (increase({series(c.LOG_LINES_LOST.name)}[10m])) > 0",
            severity="ticket",
            summary="{{ $labels.role }} processes cannot write their logs",
            description="Serving goes on; what happens meanwhile is told nowhere.",
        ),
    )


FOUNDATIONS = (
    *_planner(),
    *_redis(),
    *_system(),
    # An hour: an issuer that renews thirty days before the end needs a moment for it.
    _certificate("BatonCertificateEndsSoon", 30, "ticket", "1h", "Renew it in the coming weeks."),
    _certificate("BatonCertificateEndsThisWeek", 7, "ticket", "1h", "Whatever should have renewed it did not."),
    _certificate("BatonCertificateEndsToday", 1, "page", "0m", "Renew it now and restart what holds the old one."),
    Alert(
        name="BatonDownloadFailed",
        expression=(
            f'max by (namespace, job_name) (kube_job_failed{{{KUBE},job_name=~"{FULLNAME}-model-.*",condition="true"}})'
            " > 0"
        ),
        severity="ticket",
        summary="{{ $labels.job_name }} gave up: the model is not there",
        description="New pods wait for the model for ever. Those that run are not touched.",
    ),
)
