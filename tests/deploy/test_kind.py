"""Goal: the kind recipe fits the chart. It needs docker: what it names is compared with what is rendered."""

import re
import subprocess

from tests.architecture.source import ROOT
from tests.deploy.chart import objects, render
from tests.deploy.test_images import stages

FOLDER = ROOT / "deploy/kind"
SCRIPT = (FOLDER / "run.sh").read_text()
MANIFESTS = render("fullnameOverride=baton", values=FOLDER / "values.yaml")
FETCHED = "valkey/"
"""Not ours: the cluster's nodes fetch it."""


def words(pattern: str) -> list[str]:
    """What the script lists at a place."""
    found = re.search(pattern, SCRIPT)
    assert found is not None, pattern
    return found[1].split()


def containers():
    for kind in ("Deployment", "Job", "Pod"):
        for each in objects(kind, MANIFESTS).values():
            pod = each["spec"]["template"]["spec"] if kind != "Pod" else each["spec"]
            yield from (*pod["containers"], *pod.get("initContainers", ()))


def test_bash_can_read_it():
    done = subprocess.run(
        ["bash", "-n", str(FOLDER / "run.sh")], check=False, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr


def test_every_image_of_the_chart_is_built_and_loaded():
    targets = words(r"targets=\(([^)]*)\)")
    assert set(targets) <= set(stages())
    used = {each["image"]: each["imagePullPolicy"] for each in containers() if not each["image"].startswith(FETCHED)}
    assert set(used) == {f"baton-{target}:kind" for target in targets}
    assert set(used.values()) == {"Never"}, "a node would look for it where it is not"


def test_every_deployment_is_waited_for_after_a_change():
    waited = {f"baton-{role}" for role in words(r"for role in ([a-z ]+); do\n +\S+ rollout")}
    assert waited | {"baton-toolbox"} == set(objects("Deployment", MANIFESTS))


def test_what_is_asked_of_the_cluster_is_there():
    services = objects("Service", MANIFESTS)
    for name, port in re.findall(r'(?:reached|refused) "\$release-([a-z]+)" (\d+)', SCRIPT):
        assert int(port) in [each["port"] for each in services[f"baton-{name}"]["spec"]["ports"]], name
    named = set(re.findall(r'"hpa/\$release-([a-z]+)"', SCRIPT))
    assert {f"baton-{role}" for role in named} == set(objects("HorizontalPodAutoscaler", MANIFESTS))
    for role in words(r"for role in ([a-z ]+); do\n +refused"):
        ports = objects("Deployment", MANIFESTS)[f"baton-{role}"]["spec"]["template"]["spec"]["containers"][0]["ports"]
        assert 7460 in [each["containerPort"] for each in ports]


def test_a_stranger_may_reach_what_it_should_and_nothing_that_it_should_not():
    """Else the script would end at a healthy cluster, or learn nothing from a refusal."""
    policies = objects("NetworkPolicy", MANIFESTS)

    def lets_in(role: str, port: int) -> bool:
        anybody = {"podSelector": {}}
        rules = policies[f"baton-{role}"]["spec"].get("ingress", ())
        return any(anybody in rule["from"] and {"port": port, "protocol": "TCP"} in rule["ports"] for rule in rules)

    for what, name, port in re.findall(r'(reached|refused) "\$release-([a-z]+)" (\d+)', SCRIPT):
        assert lets_in(name, int(port)) == (what == "reached"), name
