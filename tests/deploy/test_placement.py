"""Goal: a cluster that is tainted, labelled, audited or not ours gets every pod as it wants it, not four of eight.

Method: the same value in every block, and all pods of the rendering looked at.
"""

import pytest

from tests.deploy.chart import objects, refusal, render

BLOCKS = (
    *("router", "prefill", "decode", "gateway", "planner"),
    *("redis.embedded", "model.download", "test", "toolbox"),
)
ALL = ("model.uri=hf://org/name", "planner.enabled=true", "toolbox.enabled=true")
OPENSHIFT = tuple(f"podSecurityContext.{key}=null" for key in ("runAsUser", "runAsGroup", "fsGroup"))


def pods(*settings):
    """Metadata and spec of every pod of the release, by component."""
    manifests = render(*ALL, *settings)
    templates = [
        each["spec"]["template"] for kind in ("Deployment", "Job") for each in objects(kind, manifests).values()
    ]
    templates += objects("Pod", manifests).values()
    found = {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in templates}
    assert set(found) == {"router", "prefill", "decode", "gateway", "planner", "redis", "download", "test", "toolbox"}
    return found


def everywhere(*settings):
    return [f"{block}.{setting}" for block in BLOCKS for setting in settings]


def test_every_pod_can_be_placed():
    wishes = everywhere(
        "nodeSelector.pool=inference",
        "tolerations[0].key=dedicated",
        "tolerations[0].operator=Exists",
        "affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight=1",
        "priorityClassName=serving",
        "schedulerName=ours",
        "runtimeClassName=sandbox",
    )
    for role, pod in pods(*wishes).items():
        spec = pod["spec"]
        assert spec["nodeSelector"] == {"pool": "inference"}, role
        assert {"key": "dedicated", "operator": "Exists"} in spec["tolerations"], role
        assert "podAntiAffinity" in spec["affinity"], role
        names = [spec[key] for key in ("priorityClassName", "schedulerName", "runtimeClassName")]
        assert names == ["serving", "ours", "sandbox"], role


def test_every_pod_has_the_labels_and_annotations_that_a_cluster_asks_for_and_keeps_its_own():
    wishes = everywhere("podLabels.team=a", "podAnnotations.sidecar=no", r"podLabels.app\.kubernetes\.io/component=x")
    for role, pod in pods(*wishes, "commonLabels.cost=b", "commonLabels.team=c").items():
        labels = pod["metadata"]["labels"]
        assert (labels["team"], labels["cost"]) == ("a", "b"), role
        assert labels["app.kubernetes.io/component"] == role, "what selects it is not taken over"
        assert pod["metadata"]["annotations"]["sidecar"] == "no", role


def test_labels_for_everything_do_not_replace_ours():
    for each in render("commonLabels.cost=b", r"commonLabels.app\.kubernetes\.io/name=x"):
        labels = each["metadata"]["labels"]
        assert (labels["cost"], labels["app.kubernetes.io/name"]) == ("b", "baton"), each["metadata"]["name"]


def test_where_the_cluster_chooses_ids_no_pod_names_any():
    for role, pod in pods(*OPENSHIFT).items():
        context = pod["spec"]["securityContext"]
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(context), role
        assert context["runAsNonRoot"] is True, role


def test_a_block_says_its_own_of_ids_even_what_is_none():
    found = pods(
        "model.download.podSecurityContext.runAsUser=0", "model.download.podSecurityContext.runAsNonRoot=false"
    )
    context = found["download"]["spec"]["securityContext"]
    assert (context["runAsUser"], context["runAsNonRoot"]) == (0, False)
    assert found["redis"]["spec"]["securityContext"]["runAsUser"] == 10001


def test_every_pod_pulls_with_the_secrets_and_from_the_registry_of_all():
    wishes = ("global.imagePullSecrets[0].name=pull", "global.imageRegistry=registry.example.com/mirror")
    for role, pod in pods(*wishes).items():
        assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}], role
        containers = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())]
        assert all(each["image"].startswith("registry.example.com/mirror/") for each in containers), role


@pytest.mark.parametrize("registry", ["localhost", "localhost:5000", "ghcr.io"])
def test_an_image_that_names_its_registry_keeps_it(registry):
    found = pods("global.imageRegistry=mirror.example.com", f"images.router.repository={registry}/baton-router")
    assert found["router"]["spec"]["containers"][0]["image"] == f"{registry}/baton-router:0.1.0"


def test_accounts_are_one_per_role_or_the_one_that_is_named():
    own = {role: pod["spec"]["serviceAccountName"] for role, pod in pods().items()}
    assert own.pop("test") == "default"
    assert own == {role: f"demo-baton-{role}" for role in own}
    assert set(objects("ServiceAccount", render(*ALL))) == set(own.values())
    shared = pods("serviceAccount.create=false", "serviceAccount.name=ours")
    assert {pod["spec"]["serviceAccountName"] for pod in shared.values()} == {"ours"}
    assert "serviceAccount.name" in refusal("serviceAccount.create=false", "autoscaling.mode=builtin")


def test_a_download_has_rights_of_its_own_in_a_cloud():
    account = objects("ServiceAccount", render(*ALL, "model.download.serviceAccount.annotations.role=arn"))
    assert account["demo-baton-download"]["metadata"]["annotations"] == {"role": "arn"}
    assert "annotations" not in account["demo-baton-router"]["metadata"]
    found = pods("model.download.serviceAccount.name=fetcher")
    assert found["download"]["spec"]["serviceAccountName"] == "fetcher"
    assert "demo-baton-download" not in objects(
        "ServiceAccount", render(*ALL, "model.download.serviceAccount.name=fetcher")
    )
