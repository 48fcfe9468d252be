"""helm against the control plane: the chart as it is, but for the Kubernetes version that it asks for."""

import asyncio
import shutil
import sys
from pathlib import Path

from tests.architecture.source import ROOT
from tests.deploy.chart import CHART
from tests.deploy.test_images import tool
from tests.kube.plane import ControlPlane

HELM_S = 120.0


class Helm:
    """One namespace of one cluster. `folder` gets the chart's copy and helm's own files.

    Processes listen on their pod's address alone: here all pods share one network, and its other addresses.
    """

    def __init__(self, plane: ControlPlane, namespace: str, folder: Path) -> None:
        folder.mkdir()
        self.chart = folder / "chart"
        self._folder = folder
        self._plane = plane
        self._namespace = namespace
        shutil.copytree(CHART, self.chart)
        unversioned(self.chart)
        self._backport = folder / "backport"
        self._backport.write_text(f"#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m tests.kube.backport\n")
        self._backport.chmod(0o700)

    async def install(self, release: str, *flags: str) -> str:
        """`helm install`, or the next revision where there is one; returns when the objects are there."""
        return await self(*self.installing(release, *flags))

    def installing(self, release: str, *flags: str) -> tuple[str, ...]:
        """The words for it."""
        own = ("--post-renderer", str(self._backport), "--set", "listenHost=$(POD_IP)")
        return ("upgrade", "--install", release, str(self.chart), *own, *flags)

    async def __call__(self, *words: str) -> str:
        """What helm says. It fails the test when helm fails."""
        status, said = await self.run(*words)
        assert status == 0, f"helm {words[0]}: {said}"
        return said

    async def run(self, *words: str) -> tuple[int, str]:
        """Exit status and output, whatever they are."""
        process = await asyncio.create_subprocess_exec(
            tool("helm"),
            *words,
            *("--kubeconfig", str(self._plane.kubeconfig), "--namespace", self._namespace),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"HOME": str(self._folder), "PATH": "/usr/bin:/bin"},
        )
        try:
            async with asyncio.timeout(HELM_S):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()  # bounded: it was killed
        assert process.returncode is not None
        return process.returncode, said.decode(errors="replace")


def unversioned(chart: Path) -> None:
    """The copy of a chart takes any Kubernetes."""
    file = chart / "Chart.yaml"
    file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.startswith("kubeVersion")))
