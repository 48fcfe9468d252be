"""The tracing section: whether requests become traces, and where these go."""

from dataclasses import dataclass

from common.config.knob import knob


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingSection:
    """One trace per sampled request, made by the router from its stations; the gateway adds the HTTP exchange."""

    endpoint: str = knob(
        "",
        owner="common/observe/tracing",
        unit="url",
        reason="an OTLP collector's gRPC address, http://host:4317, or https:// with the system's authorities; empty: "
        "no spans, and contexts of callers are passed on as they come",
        pattern=r"|https?://[^/\s]+/?",
    )
    sample_ratio: float = knob(
        0.1,
        owner="common/observe/tracing",
        unit="share of requests",
        reason="of requests that come without a context of their own: a trace costs about a millisecond of CPU, and a "
        "tenth shows every kind; a caller's context decides for itself",
        minimum=0.0,
        maximum=1.0,
    )
