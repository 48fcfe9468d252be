"""What happens inside: prefill, transfer, decode, Redis, and the processes themselves."""

from common.observe import catalogue as c
from deploy.dashboards.panel import Panel, Row, dashboard, peak, quantiles, rate, total

PREFILL_ROLE, DECODE_ROLE = 'role="prefill"', 'role="decode"'
POD = {"by": "pod", "legend": "{{pod}}"}

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
            sentence="By reason; digests that differed; stale words refused.",
            queries=(
                rate(c.TRANSFER_FAILURES, by="reason", legend="{{reason}}"),
                rate(c.DIGEST_FAILURES, legend="digest"),
                rate(c.STALE_REFUSED, by="fence", legend="stale {{fence}}"),
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
            sentence="By what ended the one before",
            queries=(rate(c.RETRIES, by="reason", legend="{{reason}}"),),
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
    ),
)
REDIS = Row(
    title="Redis",
    panels=(
        Panel(title="Stale", sentence="1 while it does not answer.", queries=(peak(c.DIRECTORY_STALE),)),
        Panel(title="Round trips", sentence="One command.", unit="s", queries=quantiles(c.DIRECTORY_SECONDS)),
        Panel(
            title="Errors",
            sentence="Per second, by kind.",
            queries=(rate(c.DIRECTORY_ERRORS, by="kind", legend="{{kind}}"),),
        ),
    ),
)
PROCESSES = Row(
    title="Processes",
    panels=(
        Panel(title="Memory", sentence="Resident.", unit="bytes", queries=(peak(c.PROCESS_MEMORY_BYTES),)),
        Panel(title="CPU", sentence="Cores.", queries=(peak(c.PROCESS_CPU),)),
        Panel(title="Event loop", sentence="How late at worst.", unit="s", queries=(peak(c.LOOP_LAG_SECONDS),)),
        Panel(
            title="Device memory",
            sentence="Per device.",
            unit="bytes",
            queries=(peak(c.DEVICE_MEMORY_BYTES, by="pod, device", legend="{{pod}} {{device}}"),),
        ),
        Panel(
            title="Device utilisation",
            sentence="Share of time each device computed.",
            unit="percentunit",
            queries=(peak(c.DEVICE_UTILISATION, by="pod, device", legend="{{pod}} {{device}}"),),
        ),
        Panel(
            title="gRPC",
            sentence="Calls per second that did not end well, by code.",
            queries=(rate(c.RPCS, 'code!="OK"', by="role, code", legend="{{role}} {{code}}"),),
        ),
    ),
)
INSIDE = dashboard("Baton / Inside", "inside", (PREFILL, TRANSFER, DECODE, REDIS, PROCESSES))
