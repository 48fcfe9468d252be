"""Goal: Helm 4 installs, upgrades, rolls back and removes the chart; it applies on the server's side, unlike Helm 3.

Method: without a single pod. What pods do is tried with Helm 3.
"""

from importlib.util import find_spec

import pytest

from tests.kube.helm4 import helm4, older_chart
from tests.kube.release import NAMESPACE

pytestmark = [pytest.mark.kube, pytest.mark.cluster, pytest.mark.calm]
ROLES = ("router", "gateway", "prefill", "decode")
NONE = {role: {"replicas": 0} for role in ROLES} | {"redis": {"embedded": {"enabled": False}}}
NONE["redis"]["external"] = {"existingSecret": "theirs", "peers": [{"podSelector": {}}]}


@pytest.mark.skipif(find_spec("helm_python") is None, reason="helm-python-sdk is not installed: make venv")
async def test_helm_4_takes_a_release_through_its_life_and_keeps_what_was_minted(cluster, tmp_path):
    plane, _ = cluster
    chart = str(older_chart(tmp_path / "chart"))
    api = f"/api/v1/namespaces/{NAMESPACE}"

    async def secrets():
        found = (await plane.api.get(f"{api}/secrets"))["items"]
        return {each["metadata"]["name"]: each["data"] for each in found if "four-baton" in each["metadata"]["name"]}

    async def page_size():
        text = (await plane.api.get(f"{api}/configmaps/four-baton-decode"))["data"]["baton.toml"]
        return "page_size = 32" in text

    await helm4(plane, NAMESPACE, "install", "four", chart=chart, values=NONE)
    minted = await secrets()
    assert {"four-baton-ca", "four-baton-cluster", "four-baton-router-tls"} <= set(minted)
    assert not await page_size()
    await helm4(
        plane, NAMESPACE, "upgrade", "four", chart=chart, values=NONE | {"config": {"engine": {"page_size": 32}}}
    )
    assert await page_size()
    await helm4(plane, NAMESPACE, "rollback", "four")
    assert not await page_size()
    assert await secrets() == minted
    await helm4(plane, NAMESPACE, "uninstall", "four")
    assert not await secrets()
