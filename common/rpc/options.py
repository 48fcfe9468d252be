"""Every channel and server option, in one place.

Keepalive alone does not notice a frozen peer: the kernel keeps acknowledging its bytes. `grpc.http2.ping_timeout_ms`
does, because the ping's answer must come from the process. Checked against a stopped process in tests/rpc.
"""

import json
from dataclasses import dataclass, replace
from enum import StrEnum

from common.config.sections.cluster import LivenessSection

Options = tuple[tuple[str, int | str], ...]

MIB = 1 << 20


class Surface(StrEnum):
    """Who is on the other end."""

    CLIENT = "client"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pings:
    """How soon a silent peer is called dead: after `every_s` + `timeout_s`. From the section `liveness`."""

    every_s: float
    timeout_s: float

    @classmethod
    def of(cls, liveness: LivenessSection) -> "Pings":
        return cls(every_s=liveness.ping_s, timeout_s=liveness.ping_timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one surface accepts, and how soon it calls a silent peer dead."""

    max_message_bytes: int
    max_reply_bytes: int
    max_metadata_bytes: int
    max_concurrent_streams: int
    ping_every_ms: int
    ping_timeout_ms: int
    min_ping_interval_ms: int
    """A peer that pings more often than this is disconnected by the server."""


LIMITS = {
    # A client that vanished is noticed within ping + timeout = 3.5 s (bar: 5 s), at half the internal ping rate,
    # because there may be thousands of idle clients.
    Surface.CLIENT: Limits(
        max_message_bytes=MIB,
        # What a gRPC client takes unless it was told otherwise; the ids of a whole MiB of text fit.
        max_reply_bytes=4 * MIB,
        max_metadata_bytes=16 << 10,
        max_concurrent_streams=1024,
        ping_every_ms=2000,
        ping_timeout_ms=1500,
        min_ping_interval_ms=900,
    ),
    # 16 MiB: four million token ids, far above any context; a snapshot of owned pages fits as well.
    Surface.INTERNAL: Limits(
        max_message_bytes=16 * MIB,
        max_reply_bytes=16 * MIB,
        max_metadata_bytes=16 << 10,
        max_concurrent_streams=4096,
        ping_every_ms=1000,
        ping_timeout_ms=1000,
        min_ping_interval_ms=300,
    ),
}


MAX_UNBEGUN_CALLS = 16_384
"""Calls that came and have no handler yet. From a thousand on grpc cancels a share of them by itself, without a word
that a client could act upon: of 2,000 that came at once it cancelled 200. Whom to refuse is admission's to say; this is
eight times the streams of a connection, and a few kilobytes each."""


def server_options(surface: Surface, pings: Pings | None = None, max_message_bytes: int | None = None) -> Options:
    """Options of a listener on `surface`; `pings` and `max_message_bytes` in place of the surface's own."""
    limits = _limits(surface, pings)
    return (
        *_shared(limits),
        ("grpc.max_receive_message_length", max_message_bytes or limits.max_message_bytes),
        ("grpc.max_send_message_length", limits.max_reply_bytes),
        ("grpc.max_concurrent_streams", limits.max_concurrent_streams),
        ("grpc.server.max_pending_requests", MAX_UNBEGUN_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", 2 * MAX_UNBEGUN_CALLS),
        ("grpc.http2.min_ping_interval_without_data_ms", limits.min_ping_interval_ms),
        # Two processes on one port would split the traffic of one worker id between two incarnations.
        ("grpc.so_reuseport", 0),
    )


def channel_options(surface: Surface, pings: Pings | None = None) -> Options:
    """Options of a channel towards a listener on `surface`; `pings` in place of the surface's own."""
    limits = _limits(surface, pings)
    return (
        *_shared(limits),
        ("grpc.max_receive_message_length", limits.max_reply_bytes),
        # What is too large is the server's to say, with its own limit.
        ("grpc.max_send_message_length", -1),
        # Retries live in one layer, the router; grpc's own would multiply them.
        ("grpc.enable_retries", 0),
        # A channel to a new incarnation must not inherit the connection of the old one at the same address.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # In spite of its name: how long an attempt may take, handshake included. With 100 ms nobody was reached who
        # needed longer, on a busy machine or far away, before attempts had grown to that.
        ("grpc.min_reconnect_backoff_ms", 1000),
        ("grpc.max_reconnect_backoff_ms", 1000),
    )


def _limits(surface: Surface, pings: Pings | None) -> Limits:
    limits = LIMITS[surface]
    if pings is None:
        return limits
    every_ms = round(pings.every_s * 1000)
    return replace(
        limits,
        ping_every_ms=every_ms,
        ping_timeout_ms=round(pings.timeout_s * 1000),
        min_ping_interval_ms=min(limits.min_ping_interval_ms, every_ms // 3),
    )


SPREAD: Options = (
    # Every address behind a name gets its share, but for those that say that they do not serve. Without it gRPC stays
    # with the first.
    (
        "grpc.service_config",
        json.dumps(
            {
                "loadBalancingConfig": [{"round_robin": {}}],
                "healthCheckConfig": {"serviceName": ""},
            }
        ),
    ),
    # gRPC asks DNS again when a connection ends, but not within 30 s of the last time: a router that was replaced took
    # its clients' answers with it until then.
    ("grpc.dns_min_time_between_resolutions_ms", 500),
)
"""Added to a channel by which a client deals with several routers behind one name."""


def _shared(limits: Limits) -> Options:
    return (
        ("grpc.keepalive_time_ms", limits.ping_every_ms),
        ("grpc.keepalive_timeout_ms", limits.ping_timeout_ms),
        ("grpc.http2.ping_timeout_ms", limits.ping_timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_metadata_size", limits.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", limits.max_metadata_bytes),
    )
