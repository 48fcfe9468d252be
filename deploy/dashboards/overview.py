"""What clients feel, where the time to the first token goes, and whether the fleet is large enough."""

from common.core.request import Priority
from common.observe import catalogue as c
from common.observe.metric import Metric
from deploy.dashboards.panel import (
    Panel,
    Query,
    Row,
    dashboard,
    mean,
    peak,
    quantile,
    quantiles,
    rate,
    seen,
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
            sentence="All, and by reason those that there are.",
            unit="reqps",
            queries=(
                rate(c.REQUESTS_FAILED, legend="failed"),
                rate(c.REQUESTS_REFUSED, legend="refused"),
                seen(rate(c.REQUESTS_FAILED, by="reason", legend="failed {{reason}}")),
                seen(rate(c.REQUESTS_REFUSED, by="reason", legend="refused {{reason}}")),
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
        Panel(
            title="A request's beginning, in parts",
            sentence="Means, one upon the other: waiting, reading, and the way of the pages to decode.",
            unit="s",
            queries=(
                mean(c.QUEUE_SECONDS, legend="queue"),
                mean(c.PREFILL_SECONDS, legend="prefill"),
                mean(c.HANDOFF_SECONDS, legend="hand-over"),
            ),
            width=24,
            is_stacked=True,
        ),
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
            sentence="One run of pages: from its turn on the channel to its last byte.",
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
        Panel(
            title="Waiting requests",
            sentence="At routers, by the role they wait for and their class.",
            queries=(total(c.QUEUE_REQUESTS, by="target, priority", legend="{{target}} {{priority}}"),),
        ),
        Panel(
            title="Until those who wait are let in",
            sentence="Predicted; no line while it is not known.",
            unit="s",
            queries=(peak(c.QUEUE_DRAIN_SECONDS, by="target, priority", legend="{{target}} {{priority}}"),),
        ),
        Panel(
            title="Placed by whose timings",
            sentence="Per second: the reader's own, its peers', or the documented default.",
            queries=(rate(c.COST_SOURCES, by="source", legend="{{source}}"),),
        ),
    ),
)
PLANNER = Row(
    title="What the planner wants",
    panels=(
        Panel(
            title="Workers wanted",
            sentence="By the planner, for both roles together; and how many it may want.",
            queries=(
                peak(c.PLANNER_DESIRED, by="target", legend="{{target}}"),
                peak(c.PLANNER_LIMIT, by="target", legend="{{target}} at most"),
            ),
            width=6,
        ),
        Panel(
            title="Workers it sees",
            sentence="By whether they take work.",
            queries=(peak(c.PLANNER_WORKERS, by="target, state", legend="{{target}} {{state}}"),),
            width=6,
        ),
        Panel(
            title="Load",
            sentence="Of what the ready workers can do, how much is asked now.",
            unit="percentunit",
            queries=(peak(c.PLANNER_LOAD, by="target", legend="{{target}}"),),
            width=6,
        ),
        Panel(
            title="Blind",
            sentence="1 while a signal is missing: nothing is scaled down.",
            queries=(peak(c.PLANNER_BLIND),),
            width=6,
        ),
        Panel(
            title="Changes",
            sentence="Of what is wanted, per second.",
            queries=(rate(c.PLANNER_CHANGES, by="target, direction", legend="{{target}} {{direction}}"),),
            width=12,
        ),
        Panel(
            title="Replicas of the HPAs",
            sentence="As kube-state-metrics tells them.",
            queries=tuple(
                Query(
                    expression=f"kube_horizontalpodautoscaler_status_{name}_replicas"
                    '{namespace="$namespace",horizontalpodautoscaler=~"(keda-hpa-)?$release(-.+)?-(prefill|decode)"}',
                    legend=f"{{{{horizontalpodautoscaler}}}} {name}",
                )
                for name in ("current", "desired")
            ),
            width=12,
        ),
    ),
)
OVERVIEW = dashboard("Baton / Overview", "overview", (GOLDEN, FIRST_TOKEN, SCALING, PLANNER))
