"""How a client connects: the options and the service config that Baton publishes."""

import json
from typing import Any

import grpc

from clients.identity import Identity

SERVICE_CONFIG: dict[str, Any] = {
    # Over every address that the target resolves to (dns:/// of a headless service), leaving out those that say they
    # do not serve.
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "baton.v1.GenerationService"},
    # Only calls without side effects. Generate is not among them: grpc would send it again without knowing whether the
    # first was served. What never left this machine grpc sends again by itself.
    "methodConfig": [
        {
            "name": [
                {"service": "baton.v1.GenerationService", "method": method}
                for method in ("GetModel", "Tokenize", "Detokenize")
            ],
            "timeout": "10s",
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
}

OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.max_receive_message_length", 4 << 20),
    # A router that froze keeps its TCP connection: only pings find out.
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.http2.ping_timeout_ms", 2000),
)


MAX_TIMEOUT_S = 31_536_000.0
"""Chosen: a year. Beyond 2^63 ns, and for infinity, grpc's deadline is over before the call begins."""


def bounded(timeout_s: float) -> float:
    """What grpc is told of how long a call may take."""
    return min(timeout_s, MAX_TIMEOUT_S)


def aio_channel(target: str, who: Identity | grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """For asyncio. `who` None: plain text. Bare credentials expect certificates that name the target's host."""
    if who is None:
        return grpc.aio.insecure_channel(target, options=OPTIONS)
    if isinstance(who, Identity):
        return grpc.aio.secure_channel(target, who.credentials, options=(*OPTIONS, *who.options))
    return grpc.aio.secure_channel(target, who, options=OPTIONS)


def plain_channel(target: str, who: Identity | grpc.ChannelCredentials | None) -> grpc.Channel:
    """The same for threads."""
    if who is None:
        return grpc.insecure_channel(target, options=OPTIONS)
    if isinstance(who, Identity):
        return grpc.secure_channel(target, who.credentials, options=(*OPTIONS, *who.options))
    return grpc.secure_channel(target, who, options=OPTIONS)
