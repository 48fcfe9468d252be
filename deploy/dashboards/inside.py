"""What happens inside: gateway, prefill, transfer, decode, drains, Redis, processes and devices."""

from common.observe import catalogue as c
from deploy.dashboards.panel import Panel, Query, Row, dashboard, peak, quantiles, rate, seen, shown, total

PREFILL_ROLE, DECODE_ROLE = 'role="prefill"', 'role="decode"'
POD = {"by": "pod", "legend": "{{pod}}"}

GATEWAY = Row(
    title="Gateway",
    panels=(
        Panel(
            title="Exchanges",
            sentence="Per second, by path and status.",
            unit="reqps",
            queries=(rate(c.HTTP_REQUESTS, by="path, status", legend="{{path}} {{status}}"),),
            width=12,
        ),
        Panel(
            title="Exchange",
            sentence="From a request's head to the end of its answer.",
            unit="s",
            queries=quantiles(c.HTTP_SECONDS),
            width=12,
        ),
    ),
)
PREFILL = Row(
    title="Prefill",
    panels=(
        Panel(title="Waiting tokens", sentence="Per worker.", queries=(total(c.WAITING_TOKENS, PREFILL_ROLE, **POD),)),
        Panel(
            title="Prompt tokens",
            sentence="Per second, by where their KV came from.",
            queries=(rate(c.PROMPT_TOKENS, PREFILL_ROLE, by="source", legend="{{source}}"),),
        ),
        Panel(title="Step", sentence="One forward.", unit="s", queries=quantiles(c.STEP_SECONDS, PREFILL_ROLE)),
        Panel(title="Tokens of a step", sentence="Batch size.", queries=quantiles(c.STEP_TOKENS, PREFILL_ROLE)),
        Panel(
            title="Prefix cache",
            sentence="Pages per second.",
            queries=(rate(c.PREFIX_HITS, legend="hits"), rate(c.PREFIX_MISSES, legend="misses")),
        ),
        Panel(
            title="Prompts read, pages not gone",
            sentence="Outstanding exports.",
            queries=(total(c.OUTSTANDING_EXPORTS, **POD),),
        ),
    ),
)
TRANSFER = Row(
    title="Transfer",
    panels=(
        Panel(
            title="Bytes",
            sentence="Per second, as sent.",
            unit="Bps",
            queries=(rate(c.TRANSFER_BYTES, 'direction="sent"', by="channel", legend="{{channel}}"),),
        ),
        Panel(
            title="Ends",
            sentence="Per second, by outcome.",
            queries=(rate(c.TRANSFERS_ENDED, 'direction="sent"', by="outcome", legend="{{outcome}}"),),
        ),
        Panel(
            title="Failures",
            sentence="Per second: digests that differed, stale words refused, and transfers by reason.",
            queries=(
                rate(c.DIGEST_FAILURES, legend="digest"),
                rate(c.STALE_REFUSED, by="fence", legend="stale {{fence}}"),
                seen(rate(c.TRANSFER_FAILURES, by="reason", legend="{{reason}}")),
            ),
        ),
        Panel(
            title="In flight",
            sentence="Begun and not ended.",
            queries=(total(c.TRANSFERS_IN_FLIGHT, by="direction", legend="{{direction}}"),),
        ),
        Panel(title="Open pairs", sentence="Per worker.", queries=(total(c.LINKS, **POD),)),
        Panel(
            title="Placements again",
            sentence="Per second: all, and by what ended the one before.",
            queries=(rate(c.RETRIES, legend="all"), seen(rate(c.RETRIES, by="reason", legend="{{reason}}"))),
        ),
    ),
)
DECODE = Row(
    title="Decode",
    panels=(
        Panel(title="Running", sentence="Sequences.", queries=(total(c.RUNNING_SEQUENCES, DECODE_ROLE, **POD),)),
        Panel(
            title="Pages",
            sentence="By state.",
            queries=(total(c.PAGES, DECODE_ROLE, by="state", legend="{{state}}"),),
        ),
        Panel(
            title="KV in use",
            sentence="Promised or referenced.",
            unit="percentunit",
            queries=(peak(c.KV_USAGE, DECODE_ROLE),),
        ),
        Panel(title="Step", sentence="One forward.", unit="s", queries=quantiles(c.STEP_SECONDS, DECODE_ROLE)),
        Panel(title="Rows of a step", sentence="Batch size.", queries=quantiles(c.STEP_ROWS, DECODE_ROLE)),
        Panel(
            title="Work thrown away",
            sentence="Preempted, aborted, poisoned, per second.",
            queries=(
                rate(c.PREEMPTIONS, legend="preempted"),
                rate(c.ABORTS, legend="aborted"),
                rate(c.POISONED, legend="poisoned"),
            ),
        ),
        Panel(
            title="Promises",
            sentence="By how they ended, per second.",
            queries=(rate(c.RESERVATIONS_ENDED, by="outcome", legend="{{outcome}}"),),
        ),
        Panel(
            title="Landed",
            sentence="Bytes per second that went from staging into promised pages.",
            unit="Bps",
            queries=(rate(c.LANDED_BYTES, **POD),),
        ),
        Panel(
            title="Tokens drawn",
            sentence="Per second and worker.",
            queries=(rate(c.GENERATED_TOKENS, DECODE_ROLE, **POD),),
        ),
    ),
)
LEAVING = Row(
    title="Leaving",
    panels=(
        Panel(
            title="Draining",
            sentence="1 while a process refuses new work and waits for what it has.",
            queries=(peak(c.DRAINING),),
        ),
        Panel(
            title="Choices moved",
            sentence="Per second: with the pages of their tokens, or to be read again.",
            queries=(rate(c.CHOICES_MOVED, by="outcome", legend="{{outcome}}"), rate(c.DRAIN_CUTS, legend="cut")),
        ),
        Panel(
            title="What a move costs",
            sentence="From the last token here to the first elsewhere.",
            unit="s",
            queries=quantiles(c.MOVE_GAP_SECONDS),
        ),
    ),
)
REDIS = Row(
    title="Redis",
    panels=(
        Panel(title="Stale", sentence="1 while it does not answer.", queries=(peak(c.DIRECTORY_STALE),), width=6),
        Panel(title="Round trips", sentence="One command.", unit="s", queries=quantiles(c.DIRECTORY_SECONDS), width=6),
        Panel(
            title="Errors",
            sentence="Per second, by kind.",
            queries=(rate(c.DIRECTORY_ERRORS, by="kind", legend="{{kind}}"),),
            width=6,
        ),
        Panel(
            title="What Redis holds",
            sentence="And what it may hold before it refuses writes.",
            unit="bytes",
            queries=(
                peak(c.REDIS_MEMORY_BYTES, by="release", legend="held"),
                peak(c.REDIS_LIMIT_BYTES, by="release", legend="limit"),
            ),
            width=6,
        ),
    ),
)
PROCESSES = Row(
    title="Processes",
    panels=(
        Panel(title="Memory", sentence="Resident.", unit="bytes", queries=(peak(c.PROCESS_MEMORY_BYTES),), width=6),
        Panel(title="CPU", sentence="Cores.", queries=(peak(c.PROCESS_CPU),), width=6),
        Panel(
            title="Event loop",
            sentence="How late at worst.",
            unit="s",
            queries=(peak(c.LOOP_LAG_SECONDS),),
            width=6,
        ),
        Panel(
            title="gRPC",
            sentence="Calls per second; and those that did not end well, by code.",
            queries=(
                rate(c.RPCS, legend="all"),
                seen(rate(c.RPCS, 'code!="OK"', by="role, code", legend="{{role}} {{code}}")),
            ),
            width=6,
        ),
        Panel(
            title="Certificates",
            sentence="Until the first of a role ends, its own or its authority's.",
            unit="s",
            queries=(
                Query(
                    expression=f"min by (role, kind) ({shown(c.CERTIFICATE_LEFT_SECONDS)})", legend="{{role}} {{kind}}"
                ),
            ),
            width=24,
        ),
    ),
)
DEVICES = Row(
    title="Devices",
    panels=(
        Panel(
            title="Device memory",
            sentence="Per device.",
            unit="bytes",
            queries=(peak(c.DEVICE_MEMORY_BYTES, by="pod, device", legend="{{pod}} {{device}}"),),
            width=12,
        ),
        Panel(
            title="Device utilisation",
            sentence="Share of time each device computed.",
            unit="percentunit",
            queries=(peak(c.DEVICE_UTILISATION, by="pod, device", legend="{{pod}} {{device}}"),),
            width=12,
        ),
    ),
)
INSIDE = dashboard("Baton / Inside", "inside", (GATEWAY, PREFILL, TRANSFER, DECODE, LEAVING, REDIS, PROCESSES, DEVICES))
