"""The gateway's section: where the routers are, and HTTP's own limits."""

from dataclasses import dataclass

from common.config.knob import knob

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySection:
    """What an HTTP entrance accepts before a router sees it."""

    routers: str = knob(
        "127.0.0.1:7450",
        owner="services/gateway",
        unit="gRPC target",
        reason="host:port, or dns:///baton-router:7450: calls are spread over every address behind it",
    )
    credentials_file: str = knob(
        "",
        owner="services/gateway",
        unit="path",
        reason="keys and signers of tokens, see services/gateway/credentials.py; empty: everybody is let in",
    )
    max_body_bytes: int = knob(
        2 * MIB,
        owner="services/gateway",
        unit="bytes",
        reason="JSON escapes double what the router's limit of 1 MiB lets through",
        minimum=1024,
        maximum=64 * MIB,
    )
    max_connections: int = knob(
        2048,
        owner="services/gateway",
        unit="connections",
        reason="each costs a few tens of kilobytes; more are refused with 503",
        minimum=1,
        maximum=1_000_000,
    )
    max_calls: int = knob(
        960,
        owner="services/gateway",
        unit="calls to routers",
        reason="a router takes 1,024 at a time from one connection, questions about its health among them",
        minimum=1,
        maximum=1_000_000,
    )
    max_calls_per_request: int = knob(
        8,
        owner="services/gateway",
        unit="calls to routers",
        reason="a body may hold 128 prompts; more of them at a time would pass everybody else's one",
        minimum=1,
        maximum=128,
    )
    head_s: float = knob(
        10.0,
        owner="services/gateway",
        unit="seconds",
        reason="a client that does not finish its request's head or body within it is disconnected (slowloris)",
        minimum=0.1,
        maximum=600,
    )
    keep_alive_s: float = knob(
        75.0,
        owner="services/gateway",
        unit="seconds",
        reason="longer than the 60 s of common load balancers, so that they close idle connections, not we",
        minimum=1,
        maximum=3600,
    )
    allowed_origins: str = knob(
        "",
        owner="services/gateway",
        unit="origins, with commas",
        reason="whose pages a browser lets ask this server, * for all; empty: only the page that it serves itself",
    )
    strict: bool = knob(
        False,
        owner="services/gateway",
        reason="true: unknown JSON fields are refused; false: ignored, and named in the header baton-ignored-fields",
    )
