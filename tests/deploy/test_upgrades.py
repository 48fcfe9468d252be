"""Goal: what people change later is taken by the API server and reaches the pods. Method: helm renders both."""

import re

import pytest
import yaml

from tests.architecture.source import ROOT
from tests.deploy.chart import CHART, helm, objects, refusal, render

HF = "model.uri=hf://org/name"
LONGEST = "a-release-whose-name-is-as-long-as-helm-lets-it-be-53"


def fetching(*settings: str) -> tuple[str, dict]:
    ((name, job),) = objects("Job", render(HF, *settings)).items()
    return name, job["spec"]["template"]


@pytest.mark.parametrize(
    "setting",
    [
        "images.router.tag=0.1.1",
        "model.download.image=fetcher:2",
        "model.download.existingSecret=hugging-face",
        "model.download.resources.limits.memory=2Gi",
        "global.imageRegistry=registry.example.com",
    ],
)
def test_another_pod_of_the_download_is_another_job_because_jobs_do_not_change(setting):
    before, pod_before = fetching()
    after, pod_after = fetching(setting)
    assert pod_before != pod_after
    assert before != after
    claim = {each["metadata"]["name"] for each in render(HF, setting) if each["kind"] == "PersistentVolumeClaim"}
    assert claim == set(objects("PersistentVolumeClaim", render(HF))), "fetched once"


def test_a_job_of_the_same_pod_keeps_its_name():
    assert fetching()[0] == fetching("prefill.replicas=2", "model.download.backoffLimit=9")[0]


def test_every_pattern_of_the_download_is_an_option_and_no_file_name():
    """`hf` takes one pattern per --include; a name after it would be a file, and make it forget the patterns."""
    (container,) = fetching()[1]["spec"]["containers"]
    (line,) = (line for line in container["command"][-1].splitlines() if line.startswith("hf "))
    assert line.split()[:4] == ["hf", "download", "'org/name'", "--local-dir"]
    patterns = re.findall(r"(\S+) '(\*\S+)'", line)
    assert patterns == [("--include", each) for each in ("*.json", "*.safetensors", "*.jinja")]


def test_a_strategy_that_does_not_roll_says_nothing_of_rolling():
    deployments = objects("Deployment", render("decode.strategy.type=Recreate"))
    assert deployments["demo-baton-decode"]["spec"]["strategy"] == {"type": "Recreate"}
    assert "rollingUpdate" in deployments["demo-baton-prefill"]["spec"]["strategy"]


def test_other_rights_in_redis_are_another_pod_of_redis():
    def checksum(*settings: str) -> str:
        pod = objects("Deployment", render(*settings))["demo-baton-redis"]["spec"]["template"]
        return pod["metadata"]["annotations"]["checksum/rights"]

    assert checksum() == checksum("prefill.replicas=2")
    assert checksum() != checksum("clusterName=blue")


def test_a_pod_that_is_not_ready_does_not_hold_up_a_node():
    budgets = objects("PodDisruptionBudget", render())
    assert set(budgets) == {f"demo-baton-{role}" for role in ("router", "prefill", "decode", "gateway")}
    assert all(each["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" for each in budgets.values())


def test_a_start_that_may_take_no_time_has_one_try():
    """The API server takes no threshold below 1."""
    pod = objects("Deployment", render("gateway.startupSeconds=3"))["demo-baton-gateway"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["startupProbe"]["failureThreshold"] == 1


def test_names_fit_whatever_the_release_is_called():
    assert len(LONGEST) == 53
    done = helm("template", LONGEST, str(CHART), "--namespace", "n" * 63, "--set", f"{HF},autoscaling.mode=builtin")
    assert done.returncode == 0, done.stderr
    for each in yaml.safe_load_all(done.stdout):
        if each:
            assert len(each["metadata"]["name"]) <= (253 if "Role" in each["kind"] else 63), each["metadata"]["name"]
            labels = each["metadata"].get("labels", {})
            assert all(len(value) <= 63 for value in labels.values())


def test_passwords_that_are_brought_are_looked_for_while_installing():
    assert "there is no Secret mine in ns" in refusal("redis.embedded.existingSecret=mine")


def test_the_readme_names_every_key_of_a_secret_that_can_be_brought():
    lines = (ROOT / "deploy/helm/baton/README.md").read_text().splitlines()
    (external,) = (line for line in lines if line.startswith("| `redis.external.existingSecret` | `worker-url`"))
    (embedded,) = (line for line in lines if line.startswith("| `redis.embedded.existingSecret` | `worker`"))
    assert "`planner-url`" in external
    assert "`planner`" in embedded
