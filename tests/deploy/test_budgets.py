"""Goal: what would hold up a node, a rollout or a scaler for ever is refused by its name. Method: helm renders."""

import pytest
import yaml

from tests.deploy.chart import objects, refusal, render


@pytest.mark.parametrize(
    "settings",
    [
        ("decode.pdb.minAvailable=1",),
        ("router.pdb.minAvailable=2",),
        ("router.pdb.minAvailable=100%",),
        ("router.pdb.minAvailable=51%",),
        ("decode.pdb.minAvailable=2", "autoscaling.mode=hpa", "autoscaling.decode.minReplicas=2"),
    ],
)
def test_a_budget_that_lets_nobody_go_is_refused(settings):
    role = settings[0].partition(".")[0]
    assert f"{role}.pdb.minAvailable" in refusal(*settings, f"{role}.pdb.maxUnavailable=null")


def test_none_at_a_time_is_refused_too():
    for none in ("0", "0%"):
        assert "decode.pdb.maxUnavailable" in refusal(f"decode.pdb.maxUnavailable={none}")


@pytest.mark.parametrize(
    "settings",
    [
        ("router.pdb.minAvailable=1",),
        ("router.pdb.minAvailable=50%",),
        ("decode.pdb.minAvailable=50%", "decode.replicas=4"),
        ("decode.pdb.minAvailable=3", "autoscaling.mode=hpa", "autoscaling.decode.minReplicas=4"),
        ("decode.pdb.minAvailable=1", "decode.replicas=0"),
    ],
)
def test_a_budget_that_lets_one_go_is_taken(settings):
    role, _, value = settings[0].partition(".pdb.minAvailable=")
    budgets = objects("PodDisruptionBudget", render(*settings, f"{role}.pdb.maxUnavailable=null"))
    spec = budgets[f"demo-baton-{role}"]["spec"]
    assert str(spec["minAvailable"]) == value
    assert "maxUnavailable" not in spec


@pytest.mark.parametrize("mode", ["keda-push", "builtin"])
def test_a_planner_that_alone_may_answer_is_gone_before_the_next_one_comes(mode):
    def strategy(*settings):
        return objects("Deployment", render(*settings))["demo-baton-planner"]["spec"]["strategy"]

    assert strategy(f"autoscaling.mode={mode}") == {"type": "Recreate"}
    assert strategy("autoscaling.mode=hpa")["type"] == "RollingUpdate"


def test_dashboards_of_two_releases_are_two_where_they_should_be():
    def shown(*settings):
        maps = objects("ConfigMap", render("monitoring.dashboards.enabled=true", *settings))
        return maps["demo-baton-dashboards"]["data"]

    plain, own = shown(), shown("monitoring.dashboards.perRelease=true")
    assert set(plain) == set(own) == {"baton-inside.json", "baton-overview.json"}
    for name, text in plain.items():
        before, after = yaml.safe_load(text), yaml.safe_load(own[name])
        assert before["uid"] != after["uid"]
        assert after["title"] == f"{before['title']} (ns/demo)"
        assert before | {"uid": "", "title": ""} == after | {"uid": "", "title": ""}
