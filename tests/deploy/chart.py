"""The chart as tests see it: rendered by the real helm, parsed, and asked for objects."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.architecture.source import ROOT
from tests.deploy.test_images import tool

CHART = ROOT / "deploy/helm/baton"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
EVERYTHING = (
    "autoscaling.mode=hpa",
    "monitoring.podMonitor.enabled=true",
    "monitoring.serviceMonitor.enabled=true",
    "monitoring.prometheusRule.enabled=true",
    "monitoring.dashboards.enabled=true",
    "model.uri=hf://org/name",
)
FOREIGN = ("monitoring.coreos.com/", "cert-manager.io/", "keda.sh/")
"""Groups of objects that Kubernetes itself does not know."""
Manifest = dict[str, Any]


def helm(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([tool("helm"), *arguments], check=False, capture_output=True, text=True, timeout=60)


def template(
    *settings: str, values: Path | None = None, kubernetes: str = "1.33"
) -> "subprocess.CompletedProcess[str]":
    flags = [flag for setting in settings for flag in ("--set", setting)]
    files = ["--values", str(values)] if values else []
    return helm(
        "template", "demo", str(CHART), "--namespace", "ns", "--kube-version", f"{kubernetes}.0", *flags, *files
    )


@cache
def render(*settings: str, values: Path | None = None, kubernetes: str = "1.33") -> tuple[Manifest, ...]:
    """All objects; what helm says when it refuses is the failure."""
    done = template(*settings, values=values, kubernetes=kubernetes)
    assert done.returncode == 0, done.stderr
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def refusal(*settings: str, kubernetes: str = "1.33") -> str:
    """What helm says about values that it does not take."""
    done = template(*settings, kubernetes=kubernetes)
    assert done.returncode != 0, "accepted"
    return done.stderr


def objects(kind: str, manifests: tuple[Manifest, ...]) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


def without_minted(manifest: Manifest) -> Manifest:
    """Without the sign of what the chart minted: it is new in each rendering that asks no cluster."""
    found: Manifest = json.loads(json.dumps(manifest), object_hook=lambda each: _dropped(each, "checksum/secrets"))
    return found


def _dropped(table: Manifest, key: str) -> Manifest:
    return {name: value for name, value in table.items() if name != key}


def rules() -> Manifest:
    """The PrometheusRule's spec of the release `demo` in `ns`: what promtool reads."""
    (rule,) = objects("PrometheusRule", render(*EVERYTHING)).values()
    return json.loads(json.dumps(rule["spec"]))
