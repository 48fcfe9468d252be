"""Goal: the chart renders what Kubernetes takes, refuses what it does not know, and says the same as the code."""

import asyncio
import base64
import resource
import tomllib

import kubernetes_validate
import pytest
import yaml

from common.config.loader import load
from common.config.schema import KEYS
from common.core.errors import Forbidden
from common.core.worker import Role
from common.directory.access import RedisUser, acl_lines
from common.rpc.bind import Bind, Tls
from common.rpc.identity import Caller
from common.rpc.options import Surface
from common.rpc.server import serve
from deploy.generate import generated
from deploy.schema import OWNED, config_schema
from tests.architecture.source import ROOT
from tests.deploy.chart import (
    CHART,
    EVERYTHING,
    EXAMPLES,
    FOREIGN,
    helm,
    objects,
    refusal,
    render,
    template,
    without_minted,
)
from tests.rpc.process import PickyServicer, worker_service
from tests.rpc.test_identity import ask

GOLDEN = ROOT / "tests/deploy/golden"
CASES = [pytest.param((), None, id="defaults"), pytest.param(EVERYTHING, None, id="everything")]
KIND = ROOT / "deploy/kind/values.yaml"
SETS_SCALES = ("planner.enabled=true", "planner.config.planner.actuate=kubernetes", "planner.deletionCosts=true")
CASES += [
    pytest.param(SETS_SCALES, None, id="actuate"),
    pytest.param(("autoscaling.mode=builtin",), None, id="builtin"),
]
CASES += [pytest.param(("autoscaling.mode=keda", "toolbox.enabled=true"), None, id="keda")]
CASES += [pytest.param((), path, id=path.stem) for path in EXAMPLES] + [pytest.param((), KIND, id="kind")]
"""Kinds of others: their schemas do not come with Kubernetes."""


def test_generated_files_are_fresh():
    stale = [str(path) for path, text in generated() if not path.exists() or path.read_text() != text]
    assert not stale, "run python -m deploy.generate"


@pytest.mark.parametrize("values", [None, *EXAMPLES, KIND], ids=lambda path: path.stem if path else "defaults")
def test_lint_is_strict_and_silent(values):
    files = ["--values", str(values)] if values else []
    done = helm("lint", "--strict", str(CHART), *files)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("settings", "values"), CASES)
def test_kubernetes_takes_every_object(settings, values):
    """What is rendered for a version, strictly: unknown fields are errors. Image volumes are younger than 1.29."""
    versions = ("1.33", "1.37") if values and "image://" in values.read_text() else ("1.29", "1.33", "1.37")
    for version in versions:
        for manifest in render(*settings, values=values, kubernetes=version):
            if not manifest["apiVersion"].startswith(FOREIGN):
                kubernetes_validate.validate(manifest, version, strict=True)


def test_a_kubernetes_without_image_volumes_is_told_so():
    assert "image volumes need Kubernetes 1.31" in refusal("model.uri=image://registry/model:1", kubernetes="1.29")


def test_rendering_takes_less_than_a_second():
    began = childrens_work_s()
    assert template(*EVERYTHING).returncode == 0
    assert childrens_work_s() - began < 1


def childrens_work_s():
    """Processor time of children that have ended: what else runs here does not decide."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.stem)
def test_examples_render_as_they_did(values):
    """Golden files: a change of them is a change of what people run. Delete one to have it written anew."""
    shown = yaml.safe_dump_all([_masked(each) for each in render(values=values)], sort_keys=True, width=120)
    golden = GOLDEN / values.name
    if not golden.exists():
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(shown)
        pytest.fail(f"{golden} was missing and is written now")
    assert shown == golden.read_text()


def _masked(manifest):
    """Without what is random, and without what another generated file holds already."""
    manifest = without_minted(manifest)
    if manifest["kind"] == "Secret":
        return manifest | {key: sorted(manifest[key]) for key in ("data", "stringData") if key in manifest}
    if manifest["kind"] == "PrometheusRule":
        return manifest | {"spec": [group["name"] for group in manifest["spec"]["groups"]]}
    if manifest["metadata"]["name"].endswith(("dashboards", "adapter-rules")):
        return manifest | {"data": sorted(manifest["data"])}
    return manifest


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("prefil.replicas=2", "prefil"),
        ("decode.replicas=many", "decode.replicas"),
        ("tls.mode=off", "tls.mode"),
        ("autoscaling.mode=magic", "autoscaling.mode"),
        ("model.uri=ftp://x/y", "model.uri"),
        ("images.router.digest=latest", "digest"),
        ("decode.workload.kind=DaemonSet", "decode.workload.kind"),
        ("decode.workload.kind=RayCluster", "decode.workload.kind"),
        ("prefill.workload.kind=DisaggregatedSet", "prefill.workload.kind"),
        ("decode.workload.size=2", "decode.workload"),
        ("gateway.service.type=Ingress", "gateway.service.type"),
        ("autoscaling.scaleUp.pods=-1", "autoscaling.scaleUp.pods"),
        ("autoscaling.decode.kvUsage=75%", "kvUsage"),
        ("networkPolicy.enabled=perhaps", "networkPolicy.enabled"),
        ("config.engine.page_sise=8", "page_sise"),
        ("config.engine.page_size=0", "page_size"),
        ("config.listen.host=0.0.0.0", "host"),
        ("decode.pdb.minAvailable=1", "decode.pdb"),
        ("listenHost=0.0.0.0", "listenHost"),
        ("model.uri=hf://org/$(reboot)", "model.uri"),
        ("model.download.revision=a b", "model.download.revision"),
        ("model.download.endpoint=minio:9000", "model.download.endpoint"),
        ("gateway.service.nodePort=high", "gateway.service.nodePort"),
        ("ipFamilies.policy=Both", "ipFamilies.policy"),
        ("router.service.externalTrafficPolicy=Remote", "router.service.externalTrafficPolicy"),
        ("gateway.httpRoute.enabled=true", "gateway.httpRoute.parentRefs"),
        ("autoscaling.decode.minReplicas=9", "autoscaling.decode.minReplicas: 9 is above maxReplicas, 8"),
        ("planner.deletionCosts=true", "planner.deletionCosts needs a planner"),
        ("redis.embedded.enabled=false", "redis.external.existingSecret"),
        ("model.uri=s3://bucket/x", "model.download.image"),
        ("tls.mode=existingSecrets", "tls.existingSecrets."),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(setting, word):
    assert word in refusal(setting)


def test_every_setting_is_either_the_operators_or_the_charts():
    sections = config_schema()["properties"]
    offered = {f"{section}.{name}" for section, found in sections.items() for name in found["properties"]}
    assert set(KEYS) >= OWNED
    assert offered | OWNED == {path for path in KEYS if not path.startswith("local.")}
    assert not offered & OWNED


@pytest.mark.parametrize("role", ["router", "prefill", "decode", "gateway"])
def test_the_configuration_of_a_role_is_one_that_its_process_takes(role, tmp_path):
    settings = (
        "config.engine.page_size=32",
        "config.admission.tenants=gold: weight=4",
        f"{role}.config.engine.threads=3",
    )
    manifests = render(*settings)
    text = objects("ConfigMap", manifests)[f"demo-baton-{role}"]["data"]["baton.toml"]
    file = tmp_path / "baton.toml"
    file.write_text(text)
    (container,) = objects("Deployment", manifests)[f"demo-baton-{role}"]["spec"]["template"]["spec"]["containers"]
    given = {each["name"]: each.get("value", "redis://x") for each in container["env"]}
    environment = {name: value.replace("$(POD_IP)", "10.0.0.1") for name, value in given.items()}
    config = load(file, environment)
    assert tomllib.loads(text)["engine"] == {"page_size": 32, "threads": 3}
    assert (config.cluster.name, config.liveness.drain_s, config.engine.threads) == ("demo-baton", 120, 3)
    assert (config.listen.host, config.listen.advertise) == ("*", "10.0.0.1" if role in tuple(Role) else "")
    assert config.cluster.tls_ca_file == "/etc/baton/tls/ca.crt"


@pytest.mark.parametrize("role", ["router", "prefill", "decode", "gateway"])
def test_a_pod_is_restricted_and_has_the_time_that_its_drain_takes(role):
    pod = objects("Deployment", render())[f"demo-baton-{role}"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    waits = int(container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", "0"])[1])
    assert pod["terminationGracePeriodSeconds"] >= waits + load().liveness.drain_s * 4
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_the_rights_in_redis_are_those_of_the_code():
    manifests = objects("Secret", render("clusterName=blue"))
    urls = manifests["demo-baton-redis-urls"]["stringData"]
    passwords = {user: urls[user.value] for user in RedisUser}
    assert manifests["demo-baton-redis-acl"]["stringData"]["users.acl"].strip() == "\n".join(
        acl_lines("blue", passwords)
    )


def test_certificates_name_the_roles_that_the_code_checks():
    found = objects("Certificate", render("tls.mode=certManager", "clusterName=blue"))
    names = {name: each["spec"].get("dnsNames") for name, each in found.items()}
    expected = {"router": Caller.ROUTER, "prefill": Caller.WORKER, "decode": Caller.WORKER, "gateway": Caller.GATEWAY}
    expected |= {"operator": Caller.OPERATOR, "client": Caller.CLIENT}
    for role, caller in expected.items():
        assert names[f"demo-baton-{role}"] == [caller.name_in("blue")]


def test_certificates_that_helm_makes_open_what_they_should_over_a_real_connection():
    secrets = objects("Secret", render("clusterName=blue"))

    def identity(role: str) -> Tls:
        data = {key: base64.b64decode(text) for key, text in secrets[f"demo-baton-{role}-tls"]["data"].items()}
        return Tls(certificate=data["tls.crt"], private_key=data["tls.key"], authority=data["ca.crt"], cluster="blue")

    async def body() -> None:
        server = await serve([worker_service(PickyServicer())], Bind(tls=identity("decode")), surface=Surface.INTERNAL)
        assert await ask(server.address, identity("router")) == "ready"
        with pytest.raises(Forbidden):
            await ask(server.address, identity("client"))
        await server.stop(0)

    asyncio.run(asyncio.wait_for(body(), 60))


def test_workers_may_be_groups_of_pods_and_are_scaled_as_such():
    """The operator's schema does not come with Kubernetes: the pod is that of the Deployment, which is validated."""
    manifests = render("decode.workload.kind=LeaderWorkerSet", "autoscaling.mode=hpa")
    group = without_minted(objects("LeaderWorkerSet", manifests)["demo-baton-decode"])["spec"]
    plain = without_minted(objects("Deployment", render("autoscaling.mode=hpa"))["demo-baton-decode"])["spec"]
    assert "replicas" not in group
    assert group["leaderWorkerTemplate"]["workerTemplate"] == plain["template"]
    assert group["leaderWorkerTemplate"]["size"] == 1
    assert group["rolloutStrategy"]["rollingUpdateConfiguration"] == {"maxSurge": 0, "maxUnavailable": 1}
    target = objects("HorizontalPodAutoscaler", manifests)["demo-baton-decode"]["spec"]["scaleTargetRef"]
    assert (target["apiVersion"], target["kind"]) == ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")
    assert "router.workload.kind" in refusal("router.workload.kind=LeaderWorkerSet")


def test_the_hpa_decides_replicas_where_it_is_on():
    manifests = render("autoscaling.mode=hpa")
    deployments = objects("Deployment", manifests)
    assert "replicas" not in deployments["demo-baton-decode"]["spec"]
    assert deployments["demo-baton-router"]["spec"]["replicas"] == 2
    assert set(objects("HorizontalPodAutoscaler", manifests)) == {"demo-baton-prefill", "demo-baton-decode"}
