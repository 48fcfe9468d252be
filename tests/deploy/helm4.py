"""Helm 4 as tests see it: its own Go packages behind a Python package, in a process of their own.

No registry that we install from has a binary of Helm 4. Its life with a cluster: tests/kube/test_helm4.py.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.architecture.source import ROOT

CHART = ROOT / "deploy/helm/baton"
RELEASE, NAMESPACE = "demo", "ns"


def values_of(settings: tuple[str, ...], file: Path | None) -> dict[str, Any]:
    """What `--values file --set a.b=c` means, for plain settings."""
    found: dict[str, Any] = yaml.safe_load(file.read_text()) if file else {}
    for setting in settings:
        path, _, text = setting.partition("=")
        *parents, name = path.split(".")
        table = found
        for parent in parents:
            table = table.setdefault(parent, {})
        table[name] = yaml.safe_load(text)
    return found


def ask(action: str, values: dict[str, Any]) -> Any:
    """`render`: manifests, in the chart's order, or what Helm says when it refuses (a string). `lint`: findings."""
    if find_spec("helm_python") is None:
        pytest.skip("helm-python-sdk is not installed: make venv")
    command = [sys.executable, "-m", "tests.deploy.helm4", action]
    done = subprocess.run(
        command, cwd=ROOT, input=json.dumps(values), check=True, capture_output=True, text=True, timeout=60
    )
    return json.loads(done.stdout)


def _render(values: dict[str, Any]) -> Any:
    from helm_python import Chart, HelmError

    try:
        with Chart.load(CHART) as chart:
            rendered = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    except HelmError as error:
        return str(error)
    texts = [rendered[name] for name in sorted(rendered) if name.endswith(".yaml")]
    return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]


def _lint(values: dict[str, Any]) -> Any:
    from helm_python import lint

    report = lint(CHART, values, strict=True, namespace=NAMESPACE)
    return [each["error"] for each in report["messages"] if each["severity"] > 1] + report["errors"]


if __name__ == "__main__":
    given = json.load(sys.stdin)
    json.dump(_render(given) if sys.argv[1] == "render" else _lint(given), sys.stdout)
