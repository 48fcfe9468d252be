"""Sections about the cluster as a whole: who we are, where we listen, how we notice that somebody is gone."""

from dataclasses import dataclass

from common.config.knob import knob


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSection:
    """The cluster a process belongs to."""

    name: str = knob(
        "local",
        owner="common/directory",
        reason="part of every Redis key: clusters that share a Redis do not see each other",
        pattern=r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
    )
    secret_file: str = knob(
        "",
        owner="services/local",
        unit="path",
        reason="keys of prefix hashes, digests and tickets come from it; empty: `baton up` generates one for the run",
    )
    redis_url: str = knob(
        "redis://127.0.0.1:6379/0",
        owner="common/directory",
        unit="url",
        reason="Redis is a hint only; `baton up` replaces this by its embedded server",
        pattern=r"(rediss?|unix)://.+",
        is_secret=True,
    )
    redis_ca_file: str = knob(
        "",
        owner="common/directory",
        unit="path",
        reason="PEM authority of a rediss:// server; empty: those that the machine trusts",
    )
    redis_login: str = knob(
        "url",
        owner="common/directory",
        reason="url: credentials as in redis_url; role: user baton-<role>, password derived from the cluster secret",
        choices=("url", "role"),
    )
    tls_cert_file: str = knob(
        "",
        owner="common/rpc",
        unit="path",
        reason="PEM chain of this process; it names the roles it may act in, <role>.<cluster.name>.baton; "
        "empty: plain text, on loopback only",
    )
    tls_key_file: str = knob("", owner="common/rpc", unit="path", reason="PEM key of cluster.tls_cert_file")
    tls_ca_file: str = knob(
        "", owner="common/rpc", unit="path", reason="PEM authority that every other process must be signed by"
    )
    insecure_loopback: bool = knob(
        True,
        owner="common/rpc",
        reason="plain text is allowed on loopback only; another bind without TLS is refused whatever this says",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSection:
    """Where this process listens."""

    host: str = knob(
        "127.0.0.1",
        owner="common/rpc",
        unit="address",
        reason="loopback: nothing is exposed unless asked for; *: all addresses, of IPv4 and IPv6",
    )
    port: int = knob(
        0,
        owner="common/rpc",
        reason="0 picks a free port and reports it: several workers fit on one machine",
        minimum=0,
        maximum=65535,
    )
    advertise: str = knob(
        "",
        owner="common/worker",
        unit="host[:port]",
        reason="where peers reach a worker if not where it listens: behind a forwarder, or on all addresses; without a "
        "port it is the one listened on",
    )
    metrics_port: int = knob(
        0,
        owner="common/observe",
        reason="0 picks a free port: /metrics, /healthz and /readyz have their own listener without request data",
        minimum=0,
        maximum=65535,
    )
    log_level: str = knob(
        "info",
        owner="common/observe",
        reason="changes of state, rarely more than one a second; debug has a line per request as well",
        choices=("debug", "info", "warning", "error"),
    )
    vllm_metrics: bool = knob(
        False,
        owner="common/observe",
        reason="/metrics tells some numbers under vLLM's names too, for pickers and dashboards that know no others",
    )
    vllm: bool = knob(
        False,
        owner="common/worker/vllm",
        reason="workers also serve vllm.grpc.engine.VllmEngine, for gateways that speak it; needs smg-grpc-proto",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LivenessSection:
    """How soon a silent peer is suspected, and how long anybody waits for Redis."""

    heartbeat_s: float = knob(
        0.5,
        owner="common/directory",
        unit="seconds",
        reason="six chances within a lease; two commands per worker and beat",
        minimum=0.05,
        maximum=60,
    )
    lease_s: float = knob(
        3.0,
        owner="common/directory",
        unit="seconds",
        reason="a dead worker leaves the directory after it; survives five lost heartbeats",
        minimum=0.2,
        maximum=300,
    )
    suspect_s: float = knob(
        2.0,
        owner="services/router",
        unit="seconds",
        reason="silence on an event stream before a worker gets no new work: pings fail after 2 s",
        minimum=0.1,
        maximum=300,
    )
    ping_s: float = knob(
        1.0,
        owner="common/rpc",
        unit="seconds",
        reason="HTTP/2 pings on internal hops; a frozen peer holds its TCP connection open for ever",
        minimum=0.1,
        maximum=60,
    )
    ping_timeout_s: float = knob(
        1.0,
        owner="common/rpc",
        unit="seconds",
        reason="gRPC's own default of 20 s would stall a stream for that long",
        minimum=0.1,
        maximum=60,
    )
    redis_timeout_s: float = knob(
        0.25,
        owner="common/directory",
        unit="seconds",
        reason="a hint that takes longer is worth less than routing without it",
        minimum=0.01,
        maximum=5,
    )
    redis_poll_s: float = knob(
        0.05,
        owner="common/directory",
        unit="seconds",
        reason="the one permitted poll: one reader per router tails the event stream without blocking commands; four "
        "times per heartbeat where no prompt came for 5 s",
        minimum=0.01,
        maximum=5,
    )
    redis_probe_s: float = knob(
        0.75,
        owner="common/directory",
        unit="seconds",
        reason="an open circuit tries again this often: ownership is back within two heartbeats of Redis",
        minimum=0.05,
        maximum=60,
    )
    redis_snapshot_s: float = knob(
        2.0,
        owner="common/directory",
        unit="seconds",
        reason="a router that missed an event has old hints for at most this long; 16 bytes per page and write",
        minimum=0.05,
        maximum=300,
    )
    drain_s: float = knob(
        30.0,
        owner="common/worker",
        unit="seconds",
        reason="time for running answers to finish or move before a stopping process cuts them",
        minimum=0,
        maximum=3600,
    )
    drain_notice_s: float = knob(
        0.0,
        owner="services/router",
        unit="seconds",
        reason="part of drain_s in which a leaving router or gateway says so and still takes requests, until balancers "
        "have heard; on one machine nobody balances, and on Kubernetes preStop waits before the signal",
        minimum=0,
        maximum=600,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSection:
    """What `baton up` starts on one machine."""

    prefill: int = knob(
        1, owner="services/local", unit="processes", reason="the smallest real topology", minimum=0, maximum=64
    )
    decode: int = knob(
        1, owner="services/local", unit="processes", reason="the smallest real topology", minimum=1, maximum=64
    )
    routers: int = knob(
        1,
        owner="services/local",
        unit="processes",
        reason="one entrance is enough on one machine",
        minimum=1,
        maximum=16,
    )
    gateways: int = knob(
        1,
        owner="services/local",
        unit="processes",
        reason="an OpenAI client finds the cluster at once; 0: gRPC only",
        minimum=0,
        maximum=16,
    )
    run_dir: str = knob(
        "",
        owner="services/local",
        unit="path",
        reason="sockets, logs and readiness files; empty: a temporary folder, removed at the end",
    )
    max_restarts: int = knob(
        5,
        owner="services/local",
        unit="restarts per minute and process",
        reason="a process that cannot start is reported instead of restarted for ever",
        minimum=0,
        maximum=1000,
    )
