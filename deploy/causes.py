"""Alerts on causes inside: workers, queues, pages, transfers, processes."""

from common.core.errors import Reason
from common.observe import catalogue as c
from deploy.alert import Alert, grown
from deploy.labels import BY, series

ROUTERS, DECODE = 'role="router"', 'role="decode"'
NOT_BATCH, SENT, NOT_DONE = 'priority!="batch"', 'direction="sent"', 'outcome!="done"'
LATE = f'reason="{Reason.DEADLINE_EXCEEDED}"'


def _no_workers(role: str, what: str) -> Alert:
    members = series(c.MEMBERS.name, f'target="{role}"', 'state="ready"')
    # A fleet that the planner sent to none is no fault; one that is to come back has ten minutes to load its model.
    wanted = series(c.PLANNER_DESIRED.name, f'target="{role}"')
    return Alert(
        name=f"BatonNo{role.capitalize()}",
        expression=f"max by ({BY}) ({members}) == 0 unless min by ({BY}) (min_over_time({wanted}[10m])) == 0",
        severity="page" if role == "decode" else "ticket",
        summary=f"no {role} worker is ready",
        description=what,
        hold="2m",
    )


CAUSES = (
    _no_workers("decode", "Nothing can be answered: new requests fail after ten seconds, begun ones wait."),
    _no_workers("prefill", "Decode reads all prompts itself: answers stutter under load."),
    Alert(
        name="BatonMetricsAbsent",
        expression=f"absent({series(c.BUILD_INFO.name, ROUTERS)})",
        severity="page",
        summary="no router is scraped",
        description="Either no router runs, or nothing is known about those that do. Every other alert is blind.",
        hold="5m",
    ),
    Alert(
        name="BatonQueueGrows",
        expression=f"max by ({BY}, target) ({series(c.QUEUE_OLDEST_SECONDS.name, NOT_BATCH)}) > 30",
        severity="ticket",
        summary="somebody has waited {{ $value | humanizeDuration }} for {{ $labels.target }}",
        description="The queue does not drain: autoscaling is at its maximum, absent, or pods do not become ready.",
        hold="5m",
    ),
    Alert(
        name="BatonPagesShort",
        expression=(
            f"avg by ({BY}) ({series(c.KV_USAGE.name, DECODE)}) > 0.9 and {grown(c.PREEMPTIONS, '10m', DECODE)} > 10"
        ),
        severity="ticket",
        summary="decode is short of pages: {{ $value | humanizePercentage }} in use, and sequences are preempted",
        description="Work is thrown away and computed again.",
        hold="10m",
    ),
    Alert(
        name="BatonTransfersFail",
        expression=(
            f"{grown(c.TRANSFERS_ENDED, '10m', SENT, NOT_DONE)} / {grown(c.TRANSFERS_ENDED, '10m', SENT)} > 0.05"
        ),
        severity="ticket",
        summary="{{ $value | humanizePercentage }} of page transfers fail",
        description="Prompts are read again elsewhere: slower, and not lost.",
        hold="5m",
    ),
    Alert(
        name="BatonDigestFailures",
        expression=f"{grown(c.DIGEST_FAILURES, '1h')} > 3",
        severity="ticket",
        summary="{{ $value | humanize }} pages changed on their way within an hour",
        description="No wrong token was given. A network card, a cable or memory is bad, or somebody writes there.",
    ),
    Alert(
        name="BatonDirectoryStale",
        expression=f"max by ({BY}, role) ({series(c.DIRECTORY_STALE.name)}) == 1",
        severity="ticket",
        summary="{{ $labels.role }} processes do not reach Redis",
        description="Serving goes on from replicas, prefix hits get worse, new workers are not seen.",
        hold="5m",
    ),
    Alert(
        name="BatonDeadlinesPass",
        expression=(f"{grown(c.REQUESTS_FAILED, '10m', LATE)} / {grown(c.REQUESTS_RECEIVED, '10m')} > 0.05"),
        severity="ticket",
        summary="{{ $value | humanizePercentage }} of requests run out of time",
        description="Queues are too long for what clients ask, or answers too slow.",
        hold="10m",
    ),
    Alert(
        name="BatonLoopLags",
        expression=f"max by ({BY}, role) ({series(c.LOOP_LAG_SECONDS.name)}) > 0.5",
        severity="ticket",
        summary="the event loop of a {{ $labels.role }} was {{ $value | humanizeDuration }} late",
        description="The process is short of CPU: streams stutter and heartbeats come late.",
        hold="5m",
    ),
)
