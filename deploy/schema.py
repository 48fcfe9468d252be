"""values.schema.json: the shape of values.yaml, strict, with the configuration's own limits inside."""

from typing import Any, assert_never

from common.config.schema import KEYS, SECTIONS, Key, Kind

Schema = dict[str, Any]

OWNED = frozenset(
    {
        *("cluster.name", "cluster.secret_file", "cluster.redis_url", "cluster.redis_login", "cluster.redis_ca_file"),
        *("cluster.tls_cert_file", "cluster.tls_key_file", "cluster.tls_ca_file", "cluster.insecure_loopback"),
        *("listen.host", "listen.port", "listen.advertise", "listen.metrics_port"),
        *("planner.namespace", "planner.release", "planner.keda", "planner.hpa_tolerance"),
        *("planner.kubeconfig", "planner.deletion_costs"),
        *("planner.min_prefill", "planner.max_prefill", "planner.min_decode", "planner.max_decode"),
        *("metrics_api.enabled", "metrics_api.port", "metrics_api.cert_file", "metrics_api.key_file"),
        *("model.path", "transfer.host", "liveness.drain_s", "gateway.routers", "gateway.credentials_file"),
    }
)
"""Settings that the chart makes itself: in `config` they would contradict it."""

FREE = frozenset({"affinity", "resources", "strategy", "podSecurityContext", "containerSecurityContext"})
"""Kubernetes' own shapes, handed through."""

TEXT: Schema = {"type": "string"}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": ["string", "null"]}}
"""A `true` or a 42 without quotes is no text for Kubernetes, which would say so of an object and not of a value."""
MAPS = frozenset({"commonLabels", "annotations", "labels", "podAnnotations", "podLabels", "nodeSelector"})

PORT: Schema = {"type": ["integer", "string"]}
VARIABLE: Schema = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": TEXT, "value": {"type": ["string", "null"]}},
}
ITEMS: dict[str, Schema] = {
    **dict.fromkeys(("extraArgs", "families", "accessModes", "loadBalancerSourceRanges"), TEXT),
    **dict.fromkeys(("hosts", "hostnames", "drop"), TEXT),
    **dict.fromkeys(("dnsPorts", "ports"), PORT),
    **dict.fromkeys(("extraEnv", "env"), VARIABLE),
}
"""Of lists. Those of all others are objects of Kubernetes."""

CHOICES = {
    "tls.mode": ["helm", "certManager", "existingSecrets"],
    "autoscaling.mode": ["none", "hpa", "keda", "keda-push", "builtin"],
    "autoscaling.by": ["planner", "queue"],
    "workload.kind": ["Deployment", "LeaderWorkerSet"],
    "authentication.kind": ["TriggerAuthentication", "ClusterTriggerAuthentication"],
    "service.type": ["ClusterIP", "NodePort", "LoadBalancer"],
    "externalTrafficPolicy": ["", "Cluster", "Local"],
    "ipFamilies.policy": ["", "SingleStack", "PreferDualStack", "RequireDualStack"],
    "listenHost": ["*", "$(POD_IP)"],
    "pullPolicy": ["Always", "IfNotPresent", "Never"],
}
NAME = "^$|^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
"""Of an object of Kubernetes."""
SIZE = r"^[0-9]+(\.[0-9]+)?([KMGTPE]i|[munkMGTPE]|[eE][0-9]+)?$"
BUDGET = "^[0-9]+%?$"
PATTERNS = {
    # Parts of the names of Services, which begin with a letter.
    **dict.fromkeys(("nameOverride", "fullnameOverride"), "^$|^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"),
    **dict.fromkeys(("existingSecret", "serviceAccount.name"), NAME),
    **dict.fromkeys(("priorityClassName", "schedulerName", "runtimeClassName", "storageClassName", "className"), NAME),
    **dict.fromkeys(("tmpSize", "shmSize", "storage.size"), SIZE),
    # Nothing that a shell would take for more than a word.
    "model.uri": "^(file:///[\\w./+=@-]+|pvc://[a-z0-9.-]+(/[\\w./+=@-]+)?|image://[\\w./:@-]+|hf://[\\w.-]+/[\\w.-]+"
    "|s3://[\\w.-]+(/[\\w./+=@-]+)?)$",
    "download.revision": "^[\\w./-]*$",
    "download.endpoint": "^$|^https?://[\\w.:/-]+$",
    "requestTimeout": "^[0-9]+(ms|s|m|h)$",
    "clusterName": "^$|^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    "digest": "^$|^sha256:[0-9a-f]{64}$",
    "kvUsage": r"^(0\.[0-9]+|1)$",
    "tolerance": r"^$|^0(\.[0-9]+)?$",
    "caBundle": "^[A-Za-z0-9+/=]*$",
    "ttftSeconds": r"^[0-9]+(\.[0-9]+)?$",
    "itlSeconds": r"^[0-9]+(\.[0-9]+)?$",
    "authentication.modes": "^$|^(bearer|basic|tls|custom)(,(bearer|basic|tls|custom))*$",
    "admissionSeconds": r"^[0-9]+(\.[0-9]+)?$",
}


def values_schema(values: Schema) -> Schema:
    """The schema of a document like `values`: every key is known, every type is that of its default."""
    found = _of("", values)
    config = {"$ref": "#/definitions/config"}
    found["properties"]["config"] = config
    for role in ("router", "prefill", "decode", "gateway", "planner"):
        found["properties"][role]["properties"]["config"] = config
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart baton. Made by deploy/generate.py.",
        **found,
        "definitions": {"config": config_schema()},
    }


def config_schema() -> Schema:
    """What `config` may hold, section by section: common/config's keys with their limits."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            section: {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    key.name: _knob(key) for key in KEYS.values() if key.section == section and key.path not in OWNED
                },
            }
            for section in SECTIONS
            if section != "local"
        },
    }


def _knob(key: Key) -> Schema:
    knob = key.knob
    unit = f" ({knob.unit})" if knob.unit else ""
    found: Schema = {"description": f"{knob.reason}{unit}", **_kind(key.kind)}
    if knob.minimum is not None:
        found["minimum"] = knob.minimum
    if knob.maximum is not None:
        found["maximum"] = knob.maximum
    if knob.choices:
        found["enum"] = list(knob.choices)
    if knob.pattern:
        found["pattern"] = f"^({knob.pattern})$"
    return found


def _kind(kind: Kind) -> Schema:
    match kind:
        case Kind.BOOLEAN:
            return {"type": "boolean"}
        case Kind.INTEGER:
            return {"type": "integer"}
        case Kind.NUMBER:
            return {"type": "number"}
        case Kind.TEXT:
            return {"type": "string"}
        case _:
            assert_never(kind)


def _of(path: str, value: object) -> Schema:
    name = path.rpartition(".")[2]
    tail = ".".join(path.split(".")[-2:])
    if tail.startswith("existingSecrets."):
        return {"type": "string", "pattern": NAME}
    if name in FREE:
        return {"type": "object"}
    if name in MAPS:
        return TEXTS
    if name in ("minAvailable", "maxUnavailable"):
        return {"type": ["integer", "string", "null"], "pattern": BUDGET}
    if name == "nodePort":
        return {"type": ["integer", "null"], "minimum": 1, "maximum": 65535}
    match value:
        case dict():
            below = {key: _of(f"{path}.{key}".strip("."), child) for key, child in value.items()}
            if not path:
                below["global"]["additionalProperties"] = True  # charts that hold this one may put theirs there
            return {"type": "object", "additionalProperties": False, "properties": below}
        case list():
            return {"type": "array", "items": ITEMS.get(name, {"type": "object"})}
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer", "minimum": 0}
        case str():
            return {"type": "string", **_words(name, tail)}
        case _:
            raise TypeError(f"{path}: no schema for {value!r}")


def _words(name: str, tail: str) -> Schema:
    if choices := CHOICES.get(tail) or CHOICES.get(name):
        return {"enum": choices}
    if pattern := PATTERNS.get(tail) or PATTERNS.get(name):
        return {"pattern": pattern}
    return {}
