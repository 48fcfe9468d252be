"""Goal: what KEDA is given opens what it must ask, and nothing else. Method: helm renders, real connections are made.

KEDA itself is not here. The parameters' names are those of its documentation: caCert, tlsClientCert and tlsClientKey of
the external-push trigger, authModes of the Prometheus one.
"""

import base64

import grpc
import pytest

from common.core.clock import ManualClock
from common.core.worker import Role
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.rpc.bind import Bind, Tls
from common.rpc.options import Surface
from common.rpc.server import serve
from protos.externalscaler import externalscaler_pb2 as pb
from protos.externalscaler import externalscaler_pb2_grpc
from services.planner.outlook import Outlook
from services.planner.servicer import ScalerServicer, scaler_service
from tests.deploy.chart import objects, refusal, render

PUSH = "autoscaling.mode=keda-push"
KEDA = "autoscaling.mode=keda"
OURS = ("autoscaling.keda.authentication.name=prometheus", r"autoscaling.keda.authentication.modes=bearer\,tls")


def parameters(manifests, name):
    """What a TriggerAuthentication hands to a trigger."""
    secrets = objects("Secret", manifests)
    return {
        each["parameter"]: base64.b64decode(secrets[each["name"]]["data"][each["key"]])
        for each in objects("TriggerAuthentication", manifests)[name]["spec"]["secretTargetRef"]
    }


async def asked(address, name, trigger, identity):
    """GetMetricSpec, as KEDA calls it: over TLS, for the name in the trigger's address."""
    credentials = grpc.ssl_channel_credentials(*identity)
    options = [("grpc.ssl_target_name_override", name)]
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        stub = externalscaler_pb2_grpc.ExternalScalerStub(channel)
        reference = pb.ScaledObjectRef(name="x", scalerMetadata=trigger["metadata"])
        (spec,) = (await stub.GetMetricSpec(reference, timeout=10)).metricSpecs
        return spec.metricName


async def test_a_pushed_trigger_has_the_certificate_that_the_planner_asks_for_and_others_are_refused():
    manifests = render(PUSH)
    planner = objects("Secret", manifests)["demo-baton-planner-tls"]["data"]
    certificate, key, authority = (base64.b64decode(planner[name]) for name in ("tls.crt", "tls.key", "ca.crt"))
    own = Tls(certificate=certificate, private_key=key, authority=authority, cluster="demo-baton")
    clock, metrics = ManualClock(1.0), Metrics(ProcessRole.PLANNER)
    servicer = ScalerServicer(Outlook(clock, interval_s=1.0), metrics=metrics, clock=clock)
    server = await serve([scaler_service(servicer)], Bind(tls=own), surface=Surface.CLIENT)
    for role in Role:
        (trigger,) = objects("ScaledObject", manifests)[f"demo-baton-{role}"]["spec"]["triggers"]
        given = parameters(manifests, trigger["authenticationRef"]["name"])
        identity = (given["caCert"], given["tlsClientKey"], given["tlsClientCert"])
        name, _, port = trigger["metadata"]["scalerAddress"].partition(":")
        service = objects("Service", manifests)[name.partition(".")[0]]
        assert int(port) in {each["port"] for each in service["spec"]["ports"]}
        assert await asked(server.address, name, trigger, identity) == f"{role}-desired-replicas"
        client = objects("Secret", manifests)["demo-baton-client-tls"]["data"]
        strange = (authority, base64.b64decode(client["tls.key"]), base64.b64decode(client["tls.crt"]))
        with pytest.raises(grpc.aio.AioRpcError, match="not for client"):
            await asked(server.address, name, trigger, strange)
    await server.stop(0)


def test_the_certificate_of_a_scaler_comes_from_whoever_signs_here():
    by_manager = render(PUSH, "tls.mode=certManager")
    named = objects("TriggerAuthentication", by_manager)["demo-baton-scaler"]["spec"]["secretTargetRef"]
    signed = objects("Certificate", by_manager)["demo-baton-scaler"]["spec"]
    assert {each["name"] for each in named} == {signed["secretName"]}
    assert signed["dnsNames"] == ["scaler.demo-baton.baton"]
    assert not objects("TriggerAuthentication", render(KEDA))


def test_a_prometheus_that_asks_for_a_name_is_shown_one():
    for scaled in objects("ScaledObject", render(KEDA, *OURS)).values():
        for trigger in scaled["spec"]["triggers"]:
            assert trigger["authenticationRef"] == {"name": "prometheus", "kind": "TriggerAuthentication"}
            assert trigger["metadata"]["authModes"] == "bearer,tls"
    for scaled in objects("ScaledObject", render(KEDA)).values():
        for trigger in scaled["spec"]["triggers"]:
            assert "authenticationRef" not in trigger
            assert "authModes" not in trigger["metadata"]
    assert "name and modes together" in refusal(KEDA, OURS[0])
    assert "authentication.modes" in refusal(KEDA, OURS[0], "autoscaling.keda.authentication.modes=password")
    assert "authentication.kind" in refusal(KEDA, *OURS, "autoscaling.keda.authentication.kind=Secret")
