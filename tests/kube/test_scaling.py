"""Goal: prefill and decode follow what is asked of them, up and down and to none, and no request is lost meanwhile:
by the real HPA on what the planner wants (the default), on the queue, and by the planner itself.

Method: one release, upgraded from one to the next. Simulated engines, so that the pace is the test's and not the
machine's: a step takes 250 ms, so a prefill worker reads four to five prompts a second, and a decode worker writes
four answers. One request a second comes all the time; the step is 20 at once, and five a second more until an HPA
wants more.
"""

import asyncio
import json
import re
import ssl
import time
import urllib.request
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import h11
import pytest
import pytest_asyncio

from services.planner.signals import MIN_STEPS
from tests.kube.api import Api, ApiError
from tests.kube.chart import Helm
from tests.kube.decisions import Decisions
from tests.kube.load import ANSWER_TOKENS, Load
from tests.kube.network import reachable
from tests.kube.plane import METRIC_PERIOD_S
from tests.kube.release import NAMESPACE, Release, check_whole

pytestmark = [pytest.mark.kube, pytest.mark.cluster, pytest.mark.calm, pytest.mark.timeout(240)]
VALUES = Path(__file__).with_name("scaling.yaml")
BASE_PER_S, STEP_AT_ONCE, STEP_PER_S = 1.0, 20, 5.0
MEASURED_PER_S = 2.0
"""More, until a worker's speed is known: after MIN_STEPS."""
HELD, HELD_TOKENS = 32, 32
"""Requests at once to a fleet at none: more than a decode worker has places for."""
LONG_TOKENS = 100
"""Of an answer that goes on for as long as others come and go."""
MISSING_S = 2 * METRIC_PERIOD_S
PLANNER = "scaled-baton-planner"
MAX_DECISION_S = 2 * METRIC_PERIOD_S
ROLES = ("prefill", "decode")
ITSELF = (
    *("planner.enabled=true", "planner.deletionCosts=true", "planner.config.planner.actuate=kubernetes"),
    *("planner.config.planner.idle_s=4", "planner.config.planner.hold_s=4", "autoscaling.mode=none"),
    *("autoscaling.prefill.minReplicas=0", "autoscaling.decode.minReplicas=0"),
)
RIGHTS = {
    ("deployments/scale", "scaled-baton-prefill"): {"get", "patch"},
    ("deployments/scale", "scaled-baton-decode"): {"get", "patch"},
    ("leases", PLANNER): {"get", "update"},
    ("leases", "*"): {"create"},
    ("pods", "*"): {"patch"},
}
COST = "controller.kubernetes.io/pod-deletion-cost"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def release(cluster, tmp_path_factory):
    plane, kubelet = cluster
    helm = Helm(plane, NAMESPACE, tmp_path_factory.mktemp("scaled") / "helm")
    made = Release(name="scaled", helm=helm, plane=plane, kubelet=kubelet)
    yield made
    await made.uninstall()


async def install(release, *settings):
    """Or upgrade: whichever test comes first."""
    flags = [flag for setting in settings for flag in ("--set", setting)]
    await release.install("--values", str(VALUES), *flags)
    await release.wait_rolled_out()


@asynccontextmanager
async def stepped(release, decisions, *, num_roles):
    """A load, in the block at its base: it begins when a step has made the HPAs of so many roles want more, each of
    them in time unless it had begun to grow before. All of it is answered."""

    async def has_decided():
        return sum(desired > 1 for desired in decisions.desired.values()) >= num_roles

    async with decisions.watched(), release.client() as client, Load(client) as load:
        async with load.steadily(BASE_PER_S):
            async with load.steadily(MEASURED_PER_S):
                await release.until(lambda: is_measured(release))
            async with load.steadily(STEP_PER_S):
                began = time.monotonic()
                load.send(STEP_AT_ONCE)
                await release.until(has_decided)
            took_s = decisions.first_above_one(began)
            yield
        told = await load.told()
    print(f"load step to decision: {took_s}; {len(told)} requests; changes: {decisions.changes}")
    check_whole(told, max_tokens=ANSWER_TOKENS)
    assert all(took <= MAX_DECISION_S for took in sorted(took_s.values())[:num_roles]), took_s


async def test_a_planner_with_its_own_rights_holds_none_wakes_a_pair_and_marks_the_emptiest_pod(release):
    """v1.20 knows no deletion costs (1.22): that they are there, and right, is all that can be seen."""
    await install(release, *ITSELF)
    await check_rights(release)
    await release.until(lambda: is_so(release, dict.fromkeys(ROLES, 0)))
    async with release.client() as client, Load(client, tries=1) as load:
        load.send(1, max_tokens=LONG_TOKENS)
        load.send(HELD, max_tokens=HELD_TOKENS)
        await release.until(lambda: is_marked(release))
        await release.until(lambda: is_so(release, dict.fromkeys(ROLES, 1)))
        long, *short = await load.told()
    check_whole([long], max_tokens=LONG_TOKENS)
    check_whole(short, max_tokens=HELD_TOKENS)
    lease = await release.plane.api.get(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{PLANNER}")
    (planner,) = await release.pods("planner")
    assert lease["spec"]["holderIdentity"] == planner["metadata"]["name"]


async def test_the_hpa_gives_what_the_planner_wants_up_and_down_and_no_request_is_lost(release):
    await install(release)
    await release.until(lambda: is_active(release))
    await check_api(release)
    decisions = Decisions(release)

    async def has_grown():
        """Decode has no more to write at once than prefill reads: one may be enough of it."""
        return max((await ready(release)).values()) > 1

    async with stepped(release, decisions, num_roles=1):
        await release.until(has_grown)
        assert {(role, desired) for _, role, desired in decisions.changes} <= await said(release)
        await without_numbers(release, decisions)
        await release.until(lambda: is_so(release, dict.fromkeys(ROLES, 1)))


async def test_the_hpa_follows_the_queue_where_it_is_told_to(release):
    await install(release, "autoscaling.by=queue", "config.engine.max_sequences=64")  # prompts wait for prefill alone
    await release.until(lambda: is_active(release))
    async with stepped(release, Decisions(release), num_roles=len(ROLES)):
        pass


async def ready(release):
    """Ready replicas by role."""
    return {role: (await release.deployment(role))["status"].get("readyReplicas", 0) for role in ROLES}


async def is_so(release, replicas):
    """So many are ready, and there are no others, on their way in or out."""
    there = {role: len(await release.pods(role)) for role in ROLES}
    return there == replicas == await ready(release)


async def page(pod, path):
    """Of a pod's own HTTP, as text; nothing of one that comes or goes."""
    if "podIP" not in pod["status"]:
        return ""
    url = f"http://{reachable(pod['status']['podIP'])}:9400{path}"
    try:
        return (await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read())).decode()
    except OSError:
        return ""


async def gauge(pod, name, label=""):
    """The sum of a metric, of the lines that have the label."""
    found = re.findall(rf"^{name}{{([^}}]*)}} (\S+)$", await page(pod, "/metrics"), re.MULTILINE)
    return sum(float(value) for labels, value in found if label in labels)


async def said(release):
    """Whatever the planner has wanted so far: role and number."""
    (planner,) = await release.pods("planner")
    return {(each["role"], each["desired"]) for each in json.loads(await page(planner, "/decisions"))}


async def is_measured(release):
    """The planner knows how fast workers are. Until then it reckons with the documented default, which reads six times
    as fast as these workers: a load that is too much seems to be none."""
    pods = [pod for role in ROLES for pod in await release.pods(role)]
    return min([await gauge(pod, "baton_cost_model_steps") for pod in pods]) >= MIN_STEPS


async def is_marked(release):
    """Of several decode pods exactly those that run something cost something."""
    pods = [each for each in await release.pods("decode") if "deletionTimestamp" not in each["metadata"]]
    costs = {each["metadata"]["name"]: int(each["metadata"].get("annotations", {}).get(COST, "-1")) for each in pods}
    busy = {each["metadata"]["name"] for each in pods if await gauge(each, "baton_running_sequences")}
    return len(pods) > len(busy) == 1 and {name for name, cost in costs.items() if cost > 0} == busy


async def check_rights(release):
    """What the real authorizer says that the planner's account may do, all of it; and that it may do nothing else."""
    api = replace(release.plane.api, token=await token(release, "planner"))
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview"}
    asked = await api.call(
        "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review | {"spec": {"namespace": NAMESPACE}}
    )
    found = {}
    for rule in asked["status"]["resourceRules"]:
        for resource in rule["resources"]:
            for name in rule.get("resourceNames", ["*"]):
                found.setdefault((resource, name), set()).update(rule["verbs"])
    basic = {("selfsubjectaccessreviews", "*"), ("selfsubjectrulesreviews", "*")}
    assert {key: verbs for key, verbs in found.items() if key not in basic} == RIGHTS
    with pytest.raises(ApiError, match="403"):
        await api.patch(scale("router"), {"spec": {"replicas": 0}})


async def token(release, role):
    """Of a role's account."""
    account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{release.name}-baton-{role}/token"
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    return (await release.plane.api.call("POST", account, asked))["status"]["token"]


async def check_api(release):
    """It belongs to one release, tells its numbers to who may ask the API server for them, and to nobody directly."""
    api, group = release.plane.api, "/apis/external.metrics.k8s.io/v1beta1"
    path = f"{group}/namespaces/{NAMESPACE}/prefill-desired-replicas?labelSelector=release%3D{release.name}-baton"
    (item,) = (await api.get(path))["items"]
    assert (item["metricName"], item["value"]) == ("prefill-desired-replicas", "1")
    with pytest.raises(ApiError, match="403"):
        await replace(api, token=await token(release, "router")).get(path)
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
    await asyncio.sleep(MISSING_S)  # time itself is what is tried here
    assert decisions.desired == held, "a metric that is missing has scaled something"
    assert max(held.values()) > 1
    await set_planners(release, 1)
    await release.wait_rolled_out()


def scale(role):
    return f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/scaled-baton-{role}/scale"


async def set_planners(release, replicas):
    await release.plane.api.patch(scale("planner"), {"spec": {"replicas": replicas}})


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
