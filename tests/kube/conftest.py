"""One control plane for all tests here, gone when the last of them has ended."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cluster.leftovers import nothing_left
from tests.kube.chart import Helm
from tests.kube.kubelet import Kubelet, kubelet
from tests.kube.plane import VARIABLE, ControlPlane, archive, control_plane
from tests.kube.release import NAMESPACE

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
    """It lives in a task of its own: what it opened, the same task closes."""
    source = archive()
    assert source is not None
    made: asyncio.Future[tuple[ControlPlane, Kubelet]] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def keep() -> None:
        folder = tmp_path_factory.mktemp("kube")
        with nothing_left():
            async with control_plane(source, folder) as plane, kubelet(plane) as double:
                await plane.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
                made.set_result((plane, double))
                await over.wait()
        assert not folder.exists(), "the control plane left files behind"

    keeper = asyncio.create_task(keep())
    await asyncio.wait({keeper, made}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
    if not made.done():
        keeper.cancel()
        await keeper  # raises what kept it from starting
    yield made.result()
    over.set()
    await keeper


@pytest.fixture
def helm(cluster: tuple[ControlPlane, Kubelet], tmp_path: Path) -> Helm:
    return Helm(cluster[0], NAMESPACE, tmp_path / "helm")
