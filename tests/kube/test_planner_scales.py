"""Goal: what the planner writes is what a real API server takes: a Lease, scales, a pod. Method: the control plane."""

import asyncio

import pytest

from common.core.clock import ManualClock, SystemClock
from common.core.errors import Unavailable
from common.core.ids import Epoch, WorkerId, WorkerRef
from common.core.worker import LoadReport, Member, PageCounts, Role, WorkerState
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from services.planner.actuate import REFUSED_S, Actuator, Wish
from services.planner.actuate_kubernetes import COST, KubernetesScales, read_front_proxy
from services.planner.lease import Step

pytestmark = [pytest.mark.kube, pytest.mark.cluster, pytest.mark.calm]
NAMESPACE = "default"
CONTAINERS = [{"name": "x", "image": "x"}]


def deployment(name):
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": CONTAINERS}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def pod(name):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": CONTAINERS}}


async def test_a_lease_is_held_by_one_scales_are_set_and_pods_are_marked(cluster):
    kubeconfig = str(cluster[0].kubeconfig)

    def story():
        scales = KubernetesScales(namespace=NAMESPACE, release="real", clock=SystemClock(), kubeconfig=kubeconfig)
        for role in Role:
            scales._apps.create_namespaced_deployment(NAMESPACE, deployment(f"real-{role}"))
        assert scales.lease() is None
        assert scales.hold(Step.CREATE, me="one", version="")
        assert not scales.hold(Step.CREATE, me="two", version="")
        seen = scales.lease()
        assert seen.holder == "one"
        assert scales.hold(Step.RENEW, me="one", version=seen.version)
        assert not scales.hold(Step.TAKE, me="two", version=seen.version)
        assert not scales.let_go(version=seen.version)
        assert scales.let_go(version=scales.lease().version)
        assert scales.lease().holder == ""
        assert scales.hold(Step.TAKE, me="two", version=scales.lease().version)
        scales.scale(Role.DECODE, 3)
        assert (scales.replicas(Role.PREFILL), scales.replicas(Role.DECODE)) == (0, 3)
        scales.scale(Role.DECODE, 0)
        scales._core.create_namespaced_pod(NAMESPACE, pod("real-pod"))
        scales.set_deletion_cost("real-pod", 8)
        found = scales._core.read_namespaced_pod("real-pod", NAMESPACE)
        assert found.metadata.annotations[COST] == "8"
        with pytest.raises(Unavailable):
            scales.set_deletion_cost("nobody", 1)
        scales._core.delete_namespaced_pod("real-pod", NAMESPACE, grace_period_seconds=0)
        for role in Role:
            scales._apps.delete_namespaced_deployment(f"real-{role}", NAMESPACE)
        front = read_front_proxy(kubeconfig)
        assert front.authority.startswith("-----BEGIN CERTIFICATE")

    await asyncio.to_thread(story)


async def test_a_pod_whose_cost_was_refused_is_marked_when_the_api_server_takes_it(cluster):
    """A worker that is heard of before its pod can be patched: here the pod does not exist at first."""
    kubeconfig = str(cluster[0].kubeconfig)
    clock = ManualClock(1.0)
    worker = WorkerRef(worker=WorkerId("late-pod"), epoch=Epoch(1), address="127.0.0.1:1")
    load = LoadReport(pages=PageCounts(total=8, free=8, promised=0, referenced=0, cached=0), running_sequences=3)
    late = Member(worker=worker, role=Role.DECODE, state=WorkerState.READY, load=load, layout_fingerprint=b"")

    def story():
        scales = KubernetesScales(namespace=NAMESPACE, release="late", clock=SystemClock(), kubeconfig=kubeconfig)
        actuator = Actuator(
            scales,
            me="one",
            read=lambda: Wish(recommendation=None, members=(late,)),
            sets_scales=False,
            marks_pods=True,
            metrics=Metrics(ProcessRole.PLANNER),
            clock=clock,
        )
        actuator.round()
        assert actuator.is_leader
        scales._core.create_namespaced_pod(NAMESPACE, pod("late-pod"))
        for _ in range(2):
            clock.advance(REFUSED_S)
            actuator.round()
        found = scales._core.read_namespaced_pod("late-pod", NAMESPACE)
        scales._core.delete_namespaced_pod("late-pod", NAMESPACE, grace_period_seconds=0)
        actuator.let_go()
        assert found.metadata.annotations == {COST: "4"}

    await asyncio.to_thread(story)
