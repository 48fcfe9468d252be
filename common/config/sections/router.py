"""The router's section: bounds of queues, attempts and requests."""

from dataclasses import dataclass

from common.config.knob import knob

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSection:
    """What a router accepts, how long it keeps it, how often it tries."""

    max_queue_interactive: int = knob(
        256,
        owner="services/router",
        unit="requests",
        reason="somebody watches: a longer queue is refused sooner than it is served",
        minimum=0,
        maximum=1_000_000,
    )
    max_queue_standard: int = knob(
        512,
        owner="services/router",
        unit="requests",
        reason="several seconds of work for a few workers",
        minimum=0,
        maximum=1_000_000,
    )
    max_queue_batch: int = knob(
        1024,
        owner="services/router",
        unit="requests",
        reason="batch work has time",
        minimum=0,
        maximum=1_000_000,
    )
    max_active: int = knob(
        1024,
        owner="services/router",
        unit="requests",
        reason="requests beyond the queue; bounds memory and open streams",
        minimum=1,
        maximum=1_000_000,
    )
    max_attempts: int = knob(
        4,
        owner="services/router",
        unit="placements per request",
        reason="a request that fails on four workers is the cause, not the victim",
        minimum=1,
        maximum=16,
    )
    routes: str = knob(
        "any",
        owner="services/router",
        reason="predicted costs decide for each request; local or remote keeps to one kind where it is possible",
        choices=("any", "local", "remote"),
    )
    local_prompt_tokens: int | None = knob(
        None,
        owner="services/router",
        unit="uncached prompt tokens",
        reason="none: predicted costs decide; a number is a fixed border, longer prompts go to prefill workers",
        minimum=0,
        maximum=1_048_576,
    )
    damage_weight: float = knob(
        0.25,
        owner="services/router",
        unit="seconds before a first token per second that a running answer is delayed",
        reason="a delay spread over many tokens hurts less; more sends shorter prompts to prefill workers",
        minimum=0,
        maximum=100,
    )
    fetch_prefixes: bool = knob(
        True,
        owner="services/router",
        reason="a prompt that is cached elsewhere may be placed where there is time, and its pages follow it",
    )
    fetch_patience_ms: float = knob(
        250.0,
        owner="services/router",
        unit="milliseconds",
        reason="a busy moment of two event loops; four times the predicted fetch where that is longer; then it is read",
        minimum=1,
        maximum=10_000,
    )
    balance_weight: float = knob(
        0.75,
        owner="services/router",
        unit="seconds per second of reading placed on a worker lately",
        reason="hits near those of one shared cache at little imbalance where pages are fetched; 0.25 where not",
        minimum=0,
        maximum=100,
    )
    itl_interactive_ms: float = knob(
        100.0,
        owner="services/router",
        unit="milliseconds between tokens",
        reason="ten tokens a second, twice as fast as reading: decode workers are not filled beyond it",
        minimum=0.1,
        maximum=60_000,
    )
    itl_standard_ms: float = knob(
        200.0,
        owner="services/router",
        unit="milliseconds between tokens",
        reason="five tokens a second, as fast as reading",
        minimum=0.1,
        maximum=60_000,
    )
    itl_batch_ms: float = knob(
        1000.0,
        owner="services/router",
        unit="milliseconds between tokens",
        reason="nobody watches: throughput counts",
        minimum=0.1,
        maximum=60_000,
    )
    decision_log: str = knob(
        "",
        owner="services/router",
        unit="path",
        reason="empty: decisions are remembered in memory alone; a folder gets a rotating log for baton replay",
    )
    decision_log_bytes: int = knob(
        64 * MIB,
        owner="services/router",
        unit="bytes",
        reason="about 20,000 decisions over eight workers in two files; the older one goes first",
        minimum=MIB,
        maximum=1024 * 1024 * MIB,
    )
    hold_s: float = knob(
        0.0,
        owner="services/router/admission",
        unit="seconds",
        reason="where autoscaling may go to none: a request waits as long for a first worker; 0: a fleet that is gone "
        "for 10 s refuses at once",
        minimum=0,
        maximum=3600,
    )
    default_deadline_s: float = knob(
        600.0,
        owner="services/router",
        unit="seconds",
        reason="gRPC clients have no deadline by default; longer than any answer of the demo model",
        minimum=0.1,
        maximum=86_400,
    )
    max_deadline_s: float = knob(
        3600.0,
        owner="services/router",
        unit="seconds",
        reason="an abandoned request does not hold pages for longer",
        minimum=0.1,
        maximum=86_400,
    )
    max_message_bytes: int = knob(
        MIB,
        owner="common/rpc",
        unit="bytes",
        reason="200,000 tokens of text; larger messages are refused before they are decoded",
        minimum=1024,
        maximum=64 * MIB,
    )
    max_prompt_tokens: int = knob(
        131_072,
        owner="services/router",
        unit="tokens",
        reason="refused before hashing; the model's context is usually the tighter bound",
        minimum=1,
        maximum=1_048_576,
    )
    max_constraint_bytes: int = knob(
        64 * 1024,
        owner="services/router",
        unit="bytes of source text",
        reason="a schema of 500 fields; it travels with every placement of its request",
        minimum=0,
        maximum=MIB,
    )
    default_max_tokens: int = knob(
        256,
        owner="services/router",
        unit="tokens",
        reason="a screen of text, where a request sets no bound; models that think before they answer need thousands",
        minimum=1,
        maximum=1_048_576,
    )
    max_n: int = knob(
        8, owner="services/router", unit="choices", reason="each choice is a decode row", minimum=1, maximum=128
    )
    max_stop_strings: int = knob(
        16,
        owner="services/router",
        unit="strings",
        reason="each is searched for after every token",
        minimum=0,
        maximum=1024,
    )
    max_stop_chars: int = knob(
        256,
        owner="services/router",
        unit="characters per string",
        reason="the hold-back before text is sent is as long",
        minimum=1,
        maximum=65536,
    )
    slow_reader_s: float = knob(
        30.0,
        owner="services/router",
        unit="seconds",
        reason="a stream whose buffer stays full this long is cancelled, so that memory stays bounded",
        minimum=0.1,
        maximum=3600,
    )
    max_buffered_tokens: int = knob(
        1024,
        owner="services/router",
        unit="tokens per stream",
        reason="under 256 KiB per stream, the bar for a slow reader",
        minimum=1,
        maximum=1_048_576,
    )
    recent_requests: int = knob(
        256,
        owner="common/observe",
        unit="requests",
        reason="ring of finished requests for waterfalls and explanations, about 10 KB each",
        minimum=1,
        maximum=65536,
    )
    resume_window_s: float = knob(
        30.0,
        owner="services/router",
        unit="seconds",
        reason="a resumable request waits so long for its client; as long as a slow reader is waited for",
        minimum=0.1,
        maximum=3600,
    )
    resume_buffer_bytes: int = knob(
        MIB,
        owner="services/router",
        unit="bytes per resumable request",
        reason="the last 10,000 tokens without log probabilities, 600 with 20 each; older ones cannot be resumed from",
        minimum=1024,
        maximum=1024 * MIB,
    )
    resume_total_bytes: int = knob(
        64 * MIB,
        owner="services/router",
        unit="bytes",
        reason="of all resumable requests together; over it the oldest cannot be resumed any more",
        minimum=1024,
        maximum=65_536 * MIB,
    )
