"""Helm 4 against the control plane: one action per process, since its library is a Go runtime.

It takes no post-renderer, so the chart's copy is rewritten instead of its manifests.
"""

import asyncio
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.architecture.source import ROOT
from tests.deploy.chart import CHART
from tests.kube.backport import VERSIONS
from tests.kube.chart import unversioned
from tests.kube.plane import ControlPlane

ACTION_S = 60.0


def older_chart(into: Path) -> Path:
    """A copy of the chart whose templates write what the old API server takes."""
    shutil.copytree(CHART, into)
    unversioned(into)
    for file in (into / "templates").glob("*.yaml"):
        text = re.sub(r",? *endPort: \d+", "", file.read_text())
        text = re.sub(r"(?m)^ *unhealthyPodEvictionPolicy: .*\n", "", text)
        for (version, kind), older in VERSIONS.items():
            text = text.replace(f"apiVersion: {version}\nkind: {kind}", f"apiVersion: {older}\nkind: {kind}")
        file.write_text(text)
    return into


async def helm4(plane: ControlPlane, namespace: str, action: str, release: str, **more: Any) -> dict[str, Any]:
    """What the library answers to `install`, `upgrade`, `rollback` or `uninstall`. Fails with what it says."""
    asked = {"kubeconfig": str(plane.kubeconfig), "namespace": namespace, "action": action, "release": release, **more}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.kube.helm4"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(ACTION_S):
        said, complaints = await process.communicate(json.dumps(asked).encode())
    assert process.returncode == 0, f"helm 4 {action}: {complaints.decode()[-2000:]}"
    return json.loads(said)


def _main() -> None:
    from helm_python import Config

    asked = json.load(sys.stdin)
    with Config(kubeconfig_path=asked["kubeconfig"], namespace=asked["namespace"]) as config:
        match asked["action"]:
            case "install":
                found = config.install(asked["chart"], asked["release"], asked["values"], namespace=asked["namespace"])
            case "upgrade":
                found = config.upgrade(asked["chart"], asked["release"], asked["values"], namespace=asked["namespace"])
            case "rollback":
                config.rollback(asked["release"])
                found = {}
            case _:
                found = config.uninstall(asked["release"])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    _main()
