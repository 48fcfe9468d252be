"""Admission's section: what each class is promised, and what tenants may use."""

from dataclasses import dataclass

from common.config.knob import knob

OWNER = "services/router"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionSection:
    """Promises per class, bounds of the queue in tokens, and limits of tenants. How many may wait is in `router`."""

    ttft_interactive_s: float = knob(
        2.0,
        owner=OWNER,
        unit="seconds",
        reason="time to the first token of interactive requests: a person begins to wonder after two seconds",
        minimum=0.01,
        maximum=86_400,
    )
    ttft_standard_s: float = knob(
        20.0,
        owner=OWNER,
        unit="seconds",
        reason="programs wait, but those who wait longer have often given up; new requests are shed before",
        minimum=0.01,
        maximum=86_400,
    )
    ttft_batch_s: float = knob(
        600.0,
        owner=OWNER,
        unit="seconds",
        reason="batch work has time; as long as a request's default deadline",
        minimum=0.01,
        maximum=86_400,
    )
    itl_interactive_s: float = knob(
        0.1, owner=OWNER, unit="seconds", reason="twice as fast as people read", minimum=0.001, maximum=3600
    )
    itl_standard_s: float = knob(
        0.2, owner=OWNER, unit="seconds", reason="as fast as people read", minimum=0.001, maximum=3600
    )
    itl_batch_s: float = knob(
        1.0, owner=OWNER, unit="seconds", reason="nobody reads along", minimum=0.001, maximum=3600
    )
    max_queued_tokens_interactive: int = knob(
        262_144,
        owner=OWNER,
        unit="prompt tokens",
        reason="half a minute of reading for one worker; few long prompts delay as much as many short ones",
        minimum=1,
        maximum=1 << 40,
    )
    max_queued_tokens_standard: int = knob(
        1_048_576,
        owner=OWNER,
        unit="prompt tokens",
        reason="4 MB of ids; minutes of reading for a few workers",
        minimum=1,
        maximum=1 << 40,
    )
    max_queued_tokens_batch: int = knob(
        8_388_608,
        owner=OWNER,
        unit="prompt tokens",
        reason="bounds memory: ids of waiting prompts take about 64 MB in one process",
        minimum=1,
        maximum=1 << 40,
    )
    tenant_requests_per_s: float = knob(
        0.0,
        owner=OWNER,
        unit="requests per second; 0: no limit",
        reason="fair shares protect tenants from each other; a rate is a matter of contract",
        minimum=0.0,
        maximum=1_000_000,
    )
    tenant_tokens_per_s: float = knob(
        0.0,
        owner=OWNER,
        unit="tokens of prompts and answers per second; 0: no limit",
        reason="as above; what an answer did not use of max_tokens is given back at its end",
        minimum=0.0,
        maximum=1e12,
    )
    tenant_streams: int = knob(
        0,
        owner=OWNER,
        unit="requests that wait or run; 0: no limit",
        reason="as above: streams are what costs pages",
        minimum=0,
        maximum=1_000_000,
    )
    tenants: str = knob(
        "",
        owner=OWNER,
        unit="NAME: weight=, requests_per_s=, tokens_per_s=, streams=; ...",
        reason="all are equal until somebody says otherwise",
    )
    max_tenants: int = knob(
        1024,
        owner=OWNER,
        unit="tenants",
        reason="names come from clients: beyond so many at a time, new ones share one state",
        minimum=1,
        maximum=1_000_000,
    )
