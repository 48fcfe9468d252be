"""What clients feel, where the time to the first token goes, and whether the fleet is large enough."""

from common.core.request import Priority
from common.observe import catalogue as c
from common.observe.metric import Metric
from deploy.dashboards.panel import (
    Panel,
    Query,
    Row,
    dashboard,
    peak,
    quantile,
    quantiles,
    rate,
    shown,
    total,
)

PRIORITIES = tuple((priority.value, f'priority="{priority.value}"') for priority in Priority)
P95 = 0.95
DECODE = 'role="decode"'


def _by_class(metric: Metric) -> tuple[Query, ...]:
    return tuple(quantile(P95, metric, condition, legend=f"{name} p95") for name, condition in PRIORITIES)


GOLDEN = Row(
    title="What clients feel",
    panels=(
        Panel(
            title="Requests",
            sentence="Per second: arrived, ended well, failed, refused, given up.",
            unit="reqps",
            queries=(
                rate(c.REQUESTS_RECEIVED, legend="received"),
                rate(c.REQUESTS_FINISHED, legend="finished"),
                rate(c.REQUESTS_FAILED, legend="failed"),
                rate(c.REQUESTS_REFUSED, legend="refused"),
                rate(c.REQUESTS_CANCELLED, legend="cancelled"),
            ),
        ),
        Panel(title="Time to first token", sentence="By class.", unit="s", queries=_by_class(c.TTFT_SECONDS)),
        Panel(title="Time between tokens", sentence="By class.", unit="s", queries=_by_class(c.ITL_SECONDS)),
        Panel(
            title="Goodput",
            sentence="Finished requests that kept their class's promise.",
            unit="reqps",
            queries=(rate(c.REQUESTS_WITHIN_TARGETS, by="priority", legend="{{priority}}"),),
        ),
        Panel(
            title="Failures and refusals",
            sentence="By reason.",
            unit="reqps",
            queries=(
                rate(c.REQUESTS_FAILED, by="reason", legend="failed {{reason}}"),
                rate(c.REQUESTS_REFUSED, by="reason", legend="refused {{reason}}"),
            ),
        ),
        Panel(
            title="Tokens given",
            sentence="Per second, as routers gave them to clients.",
            queries=(rate(c.GENERATED_TOKENS, 'role="router"', legend="tokens/s"),),
        ),
    ),
)
FIRST_TOKEN = Row(
    title="Where the time to the first token goes",
    panels=(
        Panel(title="Queue", sentence="Queued to admitted.", unit="s", queries=_by_class(c.QUEUE_SECONDS), width=6),
        Panel(
            title="Prefill",
            sentence="Admitted to first token.",
            unit="s",
            queries=quantiles(c.PREFILL_SECONDS),
            width=6,
        ),
        Panel(
            title="Transfer",
            sentence="One run of pages, offer to last byte.",
            unit="s",
            queries=quantiles(c.TRANSFER_SECONDS, 'direction="sent"'),
            width=6,
        ),
        Panel(
            title="First decode step",
            sentence="First token to running on decode: what the hand-over costs before the second token.",
            unit="s",
            queries=quantiles(c.HANDOFF_SECONDS),
            width=6,
        ),
    ),
)
SCALING = Row(
    title="Is the fleet large enough",
    panels=(
        Panel(
            title="Workers",
            sentence="As routers see them.",
            queries=(peak(c.MEMBERS, by="target, state", legend="{{target}} {{state}}"),),
        ),
        Panel(
            title="Waiting for prefill",
            sentence="Uncached prompt tokens: what prefill is scaled by.",
            queries=(
                total(c.QUEUE_TOKENS, 'target="prefill"', legend="at routers"),
                total(c.WAITING_TOKENS, 'role="prefill"', legend="at workers"),
            ),
        ),
        Panel(
            title="Decode is full",
            sentence="Mean share of pages in use: what decode is scaled by, with running sequences and waits.",
            unit="percentunit",
            queries=(Query(expression=f"avg ({shown(c.KV_USAGE, DECODE)})", legend="KV"),),
        ),
        Panel(
            title="Waits for a place on decode",
            sentence="How long those who got one had waited.",
            unit="s",
            queries=(peak(c.DECODE_ADMISSION_SECONDS),),
        ),
        Panel(
            title="Why the first in line waits",
            sentence="1 for the cause.",
            queries=(peak(c.QUEUE_BLOCKED, by="cause", legend="{{cause}}"),),
        ),
        Panel(
            title="Oldest in line",
            sentence="Seconds waited, by role.",
            unit="s",
            queries=(peak(c.QUEUE_OLDEST_SECONDS, by="target", legend="{{target}}"),),
        ),
    ),
)
OVERVIEW = dashboard("Baton / Overview", "overview", (GOLDEN, FIRST_TOKEN, SCALING))
