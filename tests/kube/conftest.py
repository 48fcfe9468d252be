"""One control plane for all tests here, gone when the last of them has ended."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cluster.leftovers import nothing_left
from tests.kube.chart import Helm
from tests.kube.kubelet import Kubelet, kubelet
from tests.kube.plane import VARIABLE, ControlPlane, archive, control_plane
from tests.kube.release import NAMESPACE
from tests.standing import kept_open

START_S = 90.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if archive() is None:
        for item in items:
            if item.get_closest_marker("kube"):
                item.add_marker(pytest.mark.skip(reason=f"{VARIABLE} names no control plane (tests/kube/plane.py)"))


@pytest.fixture(autouse=True)
def _nothing_left_running() -> None:
    """In place of the usual check: pods come and go with the plane. It looks when all have ended."""


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[ControlPlane, Kubelet]]:
    async with kept_open(_cluster(tmp_path_factory), START_S) as made:
        yield made


@asynccontextmanager
async def _cluster(folders: pytest.TempPathFactory) -> AsyncIterator[tuple[ControlPlane, Kubelet]]:
    source, folder = archive(), folders.mktemp("kube")
    assert source is not None
    with nothing_left():
        async with control_plane(source, folder) as plane, kubelet(plane) as double:
            await plane.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
            yield plane, double
    assert not folder.exists(), "the control plane left files behind"


@pytest.fixture
def helm(cluster: tuple[ControlPlane, Kubelet], tmp_path: Path) -> Helm:
    return Helm(cluster[0], NAMESPACE, tmp_path / "helm")
