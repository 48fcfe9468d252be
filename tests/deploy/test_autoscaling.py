"""Goal: whatever the mode, the same numbers are read, and two scalers never set one scale. Method: helm renders."""

import pytest

from common.core.worker import Role
from deploy.rules import ADAPTER
from services.planner.numbers import Number
from tests.deploy.chart import objects, refusal, render

KEDA = ("autoscaling.prefill.minReplicas=0", "autoscaling.decode.minReplicas=0")


def asked(*settings: str) -> dict[str, dict[str, str]]:
    """Per workload: the number's name, and its target."""
    manifests = render(*settings)
    found: dict[str, dict[str, str]] = {}
    for name, hpa in objects("HorizontalPodAutoscaler", manifests).items():
        metrics = [each["external"] for each in hpa["spec"]["metrics"]]
        found[name] = {
            each["metric"]["name"]: each["target"].get("averageValue") or each["target"]["value"] for each in metrics
        }
    for name, scaled in objects("ScaledObject", manifests).items():
        triggers = scaled["spec"]["triggers"]
        found[name] = {
            each["name"]: each["metadata"].get("target") or each["metadata"]["threshold"] for each in triggers
        }
    return found


@pytest.mark.parametrize("by", ["planner", "queue"])
def test_every_mode_reads_the_same_numbers(by):
    first, *others = [asked(f"autoscaling.mode={mode}", f"autoscaling.by={by}") for mode in ("hpa", "keda", "builtin")]
    assert set(first) == {f"demo-baton-{role}" for role in Role}
    assert all(each == first for each in others)
    assert asked("autoscaling.mode=keda-push", f"autoscaling.by={by}") == first
    assert {name for numbers in first.values() for name in numbers} <= set(Number) & set(ADAPTER)


def test_a_planner_runs_where_somebody_reads_it_and_nowhere_else():
    def planned(*settings: str) -> bool:
        return "demo-baton-planner" in objects("Deployment", render(*settings))

    assert not planned()
    assert not planned("autoscaling.mode=hpa", "autoscaling.by=queue")
    assert all(planned(f"autoscaling.mode={mode}") for mode in ("hpa", "keda", "keda-push", "builtin"))
    assert planned("planner.enabled=true")


def test_an_hpa_that_has_a_tolerance_gets_it_and_the_planner_knows():
    (hpa, *_) = objects(
        "HorizontalPodAutoscaler", render("autoscaling.mode=hpa", "autoscaling.tolerance=0.01")
    ).values()
    assert hpa["spec"]["behavior"]["scaleUp"]["tolerance"] == "0.01"
    planner = objects("Deployment", render("autoscaling.mode=hpa", "autoscaling.tolerance=0.01"))["demo-baton-planner"]
    (container,) = planner["spec"]["template"]["spec"]["containers"]
    assert {"name": "BATON_PLANNER__HPA_TOLERANCE", "value": "0.01"} in container["env"]


def test_the_builtin_api_is_served_to_the_api_server_alone():
    manifests = render("autoscaling.mode=builtin")
    (service,) = objects("APIService", manifests).values()
    assert service["spec"]["caBundle"]
    assert service["spec"]["service"] == {"name": "demo-baton-planner", "namespace": "ns", "port": 443}
    pod = objects("Deployment", manifests)["demo-baton-planner"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is True
    (secret,) = (each for each in manifests if each["metadata"]["name"] == "demo-baton-ca")
    assert secret["data"]["tls.crt"] == service["spec"]["caBundle"]


def test_none_is_for_both_roles_or_for_neither_and_only_where_it_can_be_left_again():
    assert "one role alone serves nobody" in refusal("autoscaling.mode=keda", "autoscaling.prefill.minReplicas=0")
    assert "needs Kubernetes 1.37" in refusal("autoscaling.mode=hpa", *KEDA)
    assert "needs autoscaling.by planner" in refusal("autoscaling.mode=keda", "autoscaling.by=queue", *KEDA)
    scaled = objects("ScaledObject", render("autoscaling.mode=keda-push", *KEDA))
    assert [each["spec"]["minReplicaCount"] for each in scaled.values()] == [0, 0]
    configs = objects("ConfigMap", render("autoscaling.mode=keda-push", *KEDA))
    assert "hold_s = 1860" in configs["demo-baton-router"]["data"]["baton.toml"]
    assert "hold_s" not in objects("ConfigMap", render())["demo-baton-router"]["data"]["baton.toml"]


def test_two_scalers_of_one_workload_are_refused():
    wish = "planner.config.planner.actuate=kubernetes"
    assert "two would set the same scale" in refusal("autoscaling.mode=hpa", wish)
    manifests = render("planner.enabled=true", wish)
    (role,) = (each for each in objects("Role", manifests).values())
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "patch", "create", "update"}
    assert not any("pods" in rule["resources"] for rule in role["rules"]), "it would hold for every pod here"
    assert "replicas" not in objects("Deployment", manifests)["demo-baton-decode"]["spec"]


def test_pods_may_be_marked_whoever_sets_the_scale_and_nothing_else_may_be_written_then():
    for mode in ("hpa", "keda", "keda-push", "builtin"):
        manifests = render(f"autoscaling.mode={mode}", "planner.deletionCosts=true")
        rules = objects("Role", manifests)["demo-baton-planner"]["rules"]
        assert {resource for rule in rules for resource in rule["resources"]} == {"pods", "leases"}
        pod = objects("Deployment", manifests)["demo-baton-planner"]["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is True
        egress = objects("NetworkPolicy", manifests)["demo-baton-planner"]["spec"]["egress"]
        assert any({"port": 6443, "protocol": "TCP"} in each["ports"] for each in egress)
    assert "needs a planner" in refusal("planner.deletionCosts=true", "autoscaling.mode=hpa", "autoscaling.by=queue")


def test_a_planner_that_sets_scales_may_do_so_wherever_its_configuration_says_it():
    """`config` holds for all processes: what it says of the planner counts like the planner's own."""
    everywhere = "config.planner.actuate=kubernetes"
    assert "two would set the same scale" in refusal("autoscaling.mode=hpa", everywhere)
    assert "needs planner.enabled" in refusal(everywhere)
    manifests = render("planner.enabled=true", everywhere, *KEDA)
    assert set(objects("Role", manifests)) == {"demo-baton-planner"}
    pod = objects("Deployment", manifests)["demo-baton-planner"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is True
    assert "hold_s = 1860" in objects("ConfigMap", manifests)["demo-baton-router"]["data"]["baton.toml"]
    overruled = render("planner.enabled=true", everywhere, "planner.config.planner.actuate=none")
    assert not objects("Role", overruled)
    assert "replicas" in objects("Deployment", overruled)["demo-baton-decode"]["spec"]
    assert "Deployments only" in refusal("planner.enabled=true", everywhere, "decode.workload.kind=LeaderWorkerSet")


def test_one_planner_answers_where_each_question_goes_to_any_of_them():
    for mode in ("keda-push", "builtin"):
        assert "planner.replicas" in refusal(f"autoscaling.mode={mode}", "planner.replicas=2")
    assert render("autoscaling.mode=hpa", "planner.replicas=2"), "there the larger wish counts"


def test_latency_is_for_modes_that_read_prometheus():
    assert "needs a mode that reads Prometheus" in refusal(
        "autoscaling.mode=builtin", "autoscaling.latency.enabled=true"
    )
    assert (
        "ttft-p95-seconds" in asked("autoscaling.mode=keda", "autoscaling.latency.enabled=true")["demo-baton-prefill"]
    )
