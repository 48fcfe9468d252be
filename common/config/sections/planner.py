"""The planner's sections: how many workers there should be, and who is told."""

from dataclasses import dataclass

from common.config.knob import knob

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerSection:
    """What `decide` is told of the operator's wishes, and how its answer gets out."""

    interval_s: float = knob(
        2.0,
        owner="services/planner",
        unit="seconds",
        reason="a look and a decision; bursts are shorter than the 15 s of an HPA, and a look is four reads of Redis",
        minimum=0.1,
        maximum=60,
    )
    window_s: float = knob(
        3600.0,
        owner="services/planner",
        unit="seconds",
        reason="past load that candidates are tried on, as far as it is like the present: a burst that came once in a "
        "quarter of an hour is not yet known to be common",
        minimum=10,
        maximum=3600,
    )
    start_s: float = knob(
        60.0,
        owner="services/planner",
        unit="seconds",
        reason="from a decision to a ready worker: what would be over before it comes needs no worker; and a worker's "
        "numbers do not count before it is this old",
        minimum=0,
        maximum=3600,
    )
    hold_s: float = knob(
        120.0,
        owner="services/planner",
        unit="seconds",
        reason="one worker fewer must have been enough for this long before it is one fewer; above start_s",
        minimum=0,
        maximum=3600,
    )
    miss_share: float = knob(
        0.1,
        owner="services/planner",
        unit="share of the work",
        reason="of the window's work, how much may wait longer than ttft_s: fleets are not for the worst burst",
        minimum=0,
        maximum=0.5,
    )
    ttft_s: float = knob(
        2.0,
        owner="services/planner",
        unit="seconds",
        reason="as long may a prompt wait for its reading: the standard class's promise, its reading included",
        minimum=0.01,
        maximum=600,
    )
    itl_s: float = knob(
        0.1,
        owner="services/planner",
        unit="seconds",
        reason="sequences of a decode worker are as many as keep a step below it",
        minimum=0.001,
        maximum=10,
    )
    admission_s: float = knob(
        1.0,
        owner="services/planner",
        unit="seconds",
        reason="a wait for a place on decode above it means that decode is short, whatever its pages say",
        minimum=0.01,
        maximum=600,
    )
    load_target: float = knob(
        0.75,
        owner="services/planner",
        unit="share",
        reason="of a worker's reading time or of its pages: queues grow without bound towards 1; as decode.kvUsage",
        minimum=0.1,
        maximum=1,
    )
    min_prefill: int = knob(
        1, owner="services/planner", unit="workers", reason="0 with min_decode 0 allows none", minimum=0, maximum=1000
    )
    max_prefill: int = knob(
        8, owner="services/planner", unit="workers", reason="what the machines are", minimum=1, maximum=1000
    )
    min_decode: int = knob(
        1, owner="services/planner", unit="workers", reason="0 with min_prefill 0 allows none", minimum=0, maximum=1000
    )
    max_decode: int = knob(
        8, owner="services/planner", unit="workers", reason="what the machines are", minimum=1, maximum=1000
    )
    idle_s: float = knob(
        600.0,
        owner="services/planner",
        unit="seconds",
        reason="with both minima 0: without a request for this long, the pair goes to none together",
        minimum=1,
        maximum=86400,
    )
    hpa_tolerance: float = knob(
        0.1,
        owner="services/planner",
        unit="share",
        reason="an HPA ignores smaller changes: steps up are made large enough for it; 0 where it has a tolerance of 0",
        minimum=0,
        maximum=0.5,
    )
    keda: bool = knob(
        False,
        owner="services/planner",
        reason="serves externalscaler.ExternalScaler on listen.port, for KEDA's triggers external and external-push",
    )
    actuate: str = knob(
        "none",
        owner="services/planner",
        reason="none: others read the metric; kubernetes: this process patches the scale of its workloads itself",
        choices=("none", "kubernetes"),
    )
    deletion_costs: bool = knob(
        False,
        owner="services/planner",
        reason="true: pods are marked with what they carry, so that the emptiest goes first; this needs the right to "
        "change any pod of the namespace",
    )
    decision_log: str = knob(
        "",
        owner="services/planner",
        unit="path",
        reason="empty: changes of mind are remembered in memory alone; a folder gets a rotating log for baton replay",
    )
    decision_log_bytes: int = knob(
        32 * MIB,
        owner="services/planner",
        unit="bytes",
        reason="about a day of looks every two seconds, in two files; the older one goes first",
        minimum=MIB,
        maximum=1024 * 1024 * MIB,
    )
    kubeconfig: str = knob(
        "",
        owner="services/planner",
        unit="path",
        reason="how to reach the API server from outside of a pod; empty: with the pod's own account",
    )
    namespace: str = knob(
        "default", owner="services/planner", reason="of the workloads, the Lease and the metrics served"
    )
    release: str = knob(
        "baton", owner="services/planner", reason="begins the workloads' names, <release>-prefill and <release>-decode"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsApiSection:
    """`external.metrics.k8s.io` served by the planner itself."""

    enabled: bool = knob(
        False,
        owner="services/planner",
        reason="one server per cluster may have this API; KEDA, Datadog and prometheus-adapter want it too",
    )
    port: int = knob(
        6443,
        owner="services/planner",
        reason="HTTPS, for the API server alone; 0 picks a free one",
        minimum=0,
        maximum=65535,
    )
    cert_file: str = knob(
        "", owner="services/planner", unit="path", reason="PEM chain that the APIService's caBundle vouches for"
    )
    key_file: str = knob("", owner="services/planner", unit="path", reason="PEM key of metrics_api.cert_file")
    front_ca_file: str = knob(
        "",
        owner="services/planner",
        unit="path",
        reason="PEM authority of the API server's front proxy; empty: read from kube-system's "
        "extension-apiserver-authentication",
    )
    front_names: str = knob(
        "",
        owner="services/planner",
        unit="names, with commas",
        reason="common names that the front proxy may have; empty: as that ConfigMap says, or any with front_ca_file",
    )
