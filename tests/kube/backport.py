"""A post-renderer for tests: today's manifests, as an API server of v1.20 takes them. Nobody should need it otherwise.

`python -m tests.kube.backport < manifests > older`. The fields that the chart uses are the same in both versions, but
for what is dropped here: `endPort` of NetworkPolicies (1.22; nothing enforces policies in the double) and the HPA's own
tolerance (1.33; the controller's 10 % hold), and what a budget says of pods that are not ready (1.27; they count).
"""

import sys
from typing import Any

import yaml

VERSIONS = {
    ("autoscaling/v2", "HorizontalPodAutoscaler"): "autoscaling/v2beta2",
    ("policy/v1", "PodDisruptionBudget"): "policy/v1beta1",
}
FOREIGN = ("monitoring.coreos.com/", "cert-manager.io/", "keda.sh/")
"""Kinds that come with operators, which are not here."""


def backport(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the old server takes, in the same order."""
    return [_older(each) for each in manifests if each and not each["apiVersion"].startswith(FOREIGN)]


def _older(manifest: dict[str, Any]) -> dict[str, Any]:
    kind = manifest["kind"]
    manifest = manifest | {"apiVersion": VERSIONS.get((manifest["apiVersion"], kind), manifest["apiVersion"])}
    if kind == "NetworkPolicy":
        return _without(manifest, "endPort")
    if kind == "HorizontalPodAutoscaler":
        return _without(manifest, "tolerance")
    if kind == "PodDisruptionBudget":
        return _without(manifest, "unhealthyPodEvictionPolicy")
    return manifest


def _without(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: _without(each, key) for name, each in value.items() if name != key}
    return [_without(each, key) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    yaml.safe_dump_all(backport(list(yaml.safe_load_all(sys.stdin))), sys.stdout)
