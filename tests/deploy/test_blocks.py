"""Goal: what every role's block and the monitors promise is in the pods. Method: helm renders."""

import pytest

from tests.deploy.chart import EVERYTHING, objects, render

GPU = ("decode.gpu.enabled=true", "decode.gpu.count=2", "decode.gpu.resource=vendor.io/gpu", "decode.shmSize=8Gi")


def pods(manifests):
    """Each Deployment's pod by role."""
    found = objects("Deployment", manifests)
    return {name.removeprefix("demo-baton-"): each["spec"]["template"] for name, each in found.items()}


def test_a_worker_with_gpus_asks_for_them_is_let_near_them_and_has_their_image_and_shared_memory():
    spec = pods(render(*GPU))["decode"]["spec"]
    (container,) = spec["containers"]
    assert container["resources"]["limits"]["vendor.io/gpu"] == 2
    assert {"key": "vendor.io/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]
    assert container["image"].startswith("baton-worker-cuda:")
    (volume,) = (each["name"] for each in container["volumeMounts"] if each["mountPath"] == "/dev/shm")
    (shared,) = (each["emptyDir"] for each in spec["volumes"] if each["name"] == volume)
    assert shared == {"medium": "Memory", "sizeLimit": "8Gi"}
    other = pods(render(*GPU))["prefill"]["spec"]
    assert other["containers"][0]["image"].startswith("baton-worker-cpu:")
    assert "tolerations" not in other


def test_pods_with_gpus_are_not_doubled_by_a_rollout_and_those_without_are():
    found = objects("Deployment", render())
    for role, surge in {"prefill": 0, "decode": 0, "router": 1, "gateway": 1}.items():
        assert found[f"demo-baton-{role}"]["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == surge


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_a_slow_load_is_a_start_and_not_a_death(role):
    (container,) = pods(render(f"{role}.startupSeconds=600"))[role]["spec"]["containers"]
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 600
    assert probe["httpGet"]["path"] == "/readyz", "which waits for a token that the worker drew itself"


def test_routers_and_workers_are_found_pod_by_pod():
    services = objects("Service", render())
    (headless,) = (each for name, each in services.items() if name == "demo-baton-router-headless")
    assert headless["spec"]["clusterIP"] == "None"
    assert {each["port"] for each in headless["spec"]["ports"]} >= {7450}


def test_monitors_select_every_role_at_a_port_that_it_has():
    manifests = render(*EVERYTHING, "planner.enabled=true")
    (by_pod,) = objects("PodMonitor", manifests).values()
    (by_service,) = objects("ServiceMonitor", manifests).values()
    (roles,) = (each["values"] for each in by_pod["spec"]["selector"]["matchExpressions"])
    ports = {each["port"] for each in (*by_pod["spec"]["podMetricsEndpoints"], *by_service["spec"]["endpoints"])}
    assert set(roles) == {"router", "prefill", "decode", "gateway", "planner"}
    for role in roles:
        pod = pods(manifests)[role]
        assert by_pod["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert ports <= {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    scraped = [
        each["spec"]["selector"]["app.kubernetes.io/component"]
        for each in objects("Service", manifests).values()
        if by_service["spec"]["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
    ]
    assert sorted(scraped) == sorted(roles), "each once"
