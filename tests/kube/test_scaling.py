"""Goal: the real HPA follows the queue, prefill and decode up and down, and no request is lost or fails meanwhile.

Method: simulated engines, so that the pace is the test's and not the machine's: a prefill worker reads 1,600 tokens a
second. Two requests a second come all the time; the step is 24 at once, and four a second more until both roles grew.
"""

import asyncio
import random
import ssl
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import h11
import pytest

from tests.cluster.house import Ask
from tests.kube.api import Api, ApiError
from tests.kube.chart import Helm
from tests.kube.network import reachable
from tests.kube.plane import METRIC_PERIOD_S
from tests.kube.release import NAMESPACE, Release, ask, check_whole

pytestmark = [pytest.mark.kube, pytest.mark.cluster, pytest.mark.timeout(240)]
VALUES = Path(__file__).with_name("scaling.yaml")
SEED = 5
PROMPT_TOKENS, ANSWER_TOKENS = 200, 48
BASE_PER_S, STEP_AT_ONCE, STEP_PER_S = 2.0, 24, 4.0
SCALE_DOWN_S = 6.0
"""As in the values."""
PLANNER = "scaled-baton-planner"
MAX_DECISION_S = 2 * METRIC_PERIOD_S
ROLES = ("prefill", "decode")


class Load:
    """Requests of one client. What they are told is kept."""

    def __init__(self, client):
        self._client = client
        self._chance = random.Random(SEED)
        self._tasks = []

    def send(self, count=1):
        for _ in range(count):
            tokens = tuple(self._chance.randrange(1, 500) for _ in range(PROMPT_TOKENS))
            self._tasks.append(asyncio.create_task(ask(self._client, Ask(tokens=tokens, max_tokens=ANSWER_TOKENS))))

    @asynccontextmanager
    async def steadily(self, per_s):
        """Inside the block."""

        async def send():
            while True:
                self.send()
                await asyncio.sleep(1 / per_s)

        sender = asyncio.create_task(send())
        try:
            yield
        finally:
            sender.cancel()

    async def told(self):
        return await asyncio.gather(*self._tasks)


class Decisions:
    """Every change of what the HPAs want, with the moment at which it was seen."""

    def __init__(self, release):
        self._release = release
        self.desired = {}
        self.changes = []

    @asynccontextmanager
    async def watched(self):
        watcher = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    async def _watch(self):
        path = f"/apis/autoscaling/v2beta2/namespaces/{NAMESPACE}/horizontalpodautoscalers"
        async for _, obj in self._release.plane.api.watch(path):
            role = obj["metadata"]["name"].rpartition("-")[2]
            desired = obj.get("status", {}).get("desiredReplicas", 0)
            if self.desired.get(role) != desired:
                self.desired[role] = desired
                self.changes.append((time.monotonic(), role, desired))

    def first_above_one(self, role, since):
        return next(at - since for at, name, desired in self.changes if name == role and at > since and desired > 1)


async def test_the_hpa_scales_both_roles_up_and_down_and_no_request_is_lost(cluster, tmp_path):
    plane, kubelet = cluster
    helm = Helm(plane, NAMESPACE, tmp_path / "helm")
    release = Release(name="scaled", helm=helm, plane=plane, kubelet=kubelet)
    await release.install("--values", str(VALUES))
    await release.wait_rolled_out()
    await release.until(lambda: is_active(release))
    await check_api(release)
    decisions = Decisions(release)

    async def have(ready):
        found = [(await release.deployment(role))["status"] for role in ROLES]
        return all(ready(each.get("readyReplicas", 0), each["replicas"]) for each in found)

    async with decisions.watched(), release.client() as client:
        load = Load(client)
        async with load.steadily(BASE_PER_S):
            async with load.steadily(STEP_PER_S):
                began = time.monotonic()
                load.send(STEP_AT_ONCE)
                await release.until(lambda: have(lambda ready, _: ready > 1))
            took_s = {role: decisions.first_above_one(role, began) for role in ROLES}
            await without_numbers(release, decisions)
            await release.until(lambda: have(lambda ready, there: ready == there == 1))
        told = await load.told()
    print(f"load step to decision: {took_s}; {len(told)} requests; changes: {decisions.changes}")
    check_whole(told, max_tokens=ANSWER_TOKENS)
    assert max(took_s.values()) <= MAX_DECISION_S, took_s
    await release.uninstall()


async def check_api(release):
    """It belongs to one release, tells its numbers to who may ask the API server for them, and to nobody directly."""
    api, group = release.plane.api, "/apis/external.metrics.k8s.io/v1beta1"
    path = f"{group}/namespaces/{NAMESPACE}/prefill-queued-tokens?labelSelector=release%3D{release.name}-baton"
    (item,) = (await api.get(path))["items"]
    assert item["metricName"] == "prefill-queued-tokens"
    account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{release.name}-baton-router/token"
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    token = (await api.call("POST", account, asked))["status"]["token"]
    with pytest.raises(ApiError, match="403"):
        await replace(api, token=token).get(path)
    (planner,) = await release.pods("planner")
    direct = Api(
        address=(reachable(planner["status"]["podIP"]), 6443), server_name="x", tls=_careless(), token=api.token
    )
    with pytest.raises((OSError, h11.RemoteProtocolError)):  # without a certificate it is hung up on
        await direct.get(path)
    status, said = await release.helm.run(*release.helm.installing("second", "--set", "autoscaling.mode=builtin"))
    assert status != 0
    assert f"is served already, by {NAMESPACE}/{PLANNER}" in said


def _careless():
    """Trusts anybody, and shows no certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def without_numbers(release, decisions):
    """The planner goes away, for longer than it takes to scale down; then it comes back."""
    await set_planners(release, 0)
    await release.until(lambda: is_active(release, "False"))
    held = dict(decisions.desired)
    await asyncio.sleep(SCALE_DOWN_S + 2 * METRIC_PERIOD_S)  # time itself is what is tried here
    assert decisions.desired == held, "a metric that is missing has scaled something"
    await set_planners(release, 1)


async def set_planners(release, replicas):
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{PLANNER}/scale"
    await release.plane.api.patch(path, {"spec": {"replicas": replicas}})


async def is_active(release, status="True"):
    """Both HPAs got their numbers, or neither did."""
    found = (await release.get("horizontalpodautoscalers"))["items"]
    active = [
        condition["status"]
        for each in found
        for condition in each.get("status", {}).get("conditions", ())
        if condition["type"] == "ScalingActive"
    ]
    return active == [status] * len(ROLES)
