"""Goal: what the doubles themselves decide is right. Without a control plane, so it runs everywhere."""

import struct
from pathlib import Path

from tests.kube.backport import backport
from tests.kube.names import answer
from tests.kube.network import Network, reachable
from tests.kube.probe import verdicts
from tests.kube.services import Endpoints
from tests.kube.variables import expanded
from tests.kube.volumes import translated


def test_mounted_paths_become_folders_of_this_machine_once_and_whole():
    paths = {"/tmp": Path("/tmp/pods/1/tmp"), "/etc/baton/tls": Path("/tmp/pods/1/tls"), "/app": Path("/house")}
    assert translated("--ca=/etc/baton/tls/ca.crt", paths) == "--ca=/tmp/pods/1/tls/ca.crt"
    assert translated("--dir /tmp", paths) == "--dir /tmp/pods/1/tmp"
    assert translated("/etc/baton/tls-old/tmpfile /mytmp /tmpfs", paths) == "/etc/baton/tls-old/tmpfile /mytmp /tmpfs"


def test_variables_are_put_in_where_they_are_known():
    assert expanded("--name=$(POD_NAME) $(NOBODY)", {"POD_NAME": "a"}) == "--name=a $(NOBODY)"


def test_addresses_that_are_told_lead_to_the_loopback_ones():
    network = Network(77)
    first, second = network.new_pod(), network.new_pod()
    assert (first, second) == ("10.77.1.0", "10.77.1.1")
    assert reachable(second) == "127.77.1.1"


def test_an_old_server_gets_the_versions_and_fields_that_it_knows():
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "spec": {"egress": [{"ports": [{"port": 1024, "endPort": 65535, "protocol": "TCP"}]}]},
    }
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"maxUnavailable": 1}}
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "spec": {"behavior": {"scaleUp": {"tolerance": "0.05", "policies": []}}},
    }
    monitor = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor"}
    older_policy, older_budget, older_scaler = backport([policy, budget, scaler, monitor])
    assert older_policy["spec"] == {"egress": [{"ports": [{"port": 1024, "protocol": "TCP"}]}]}
    assert older_budget == budget | {"apiVersion": "policy/v1beta1"}
    assert older_scaler["apiVersion"] == "autoscaling/v2beta2"
    assert older_scaler["spec"] == {"behavior": {"scaleUp": {"policies": []}}}


def test_a_headless_name_has_the_addresses_of_its_ready_pods_and_others_have_none():
    class Book:
        def endpoints(self, namespace, name):
            found = Endpoints()
            if (namespace, name) == ("ns", "router"):
                ports = [{"name": "grpc", "port": 7450}]
                found.take({"subsets": [{"addresses": [{"ip": "10.7.1.2"}, {"ip": "10.7.1.3"}], "ports": ports}]})
            return found

    def ask(name, kind=1):
        labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
        reply = answer(b"\x12\x34\x01\x00\x00\x01" + bytes(6) + labels + b"\0" + struct.pack("!HH", kind, 1), Book())
        return struct.unpack_from("!HHHH", reply), reply

    (number, status, _, count), reply = ask("router.ns.svc")
    assert (number, status & 0xF, count) == (0x1234, 0, 2)
    assert reply.endswith(bytes([127, 7, 1, 3]))
    assert ask("router.ns.svc", kind=28)[0][3] == 0
    assert ask("nobody.ns.svc")[0][1] & 0xF == 3


async def test_a_probe_speaks_when_its_thresholds_do():
    looks = iter([True, False, False, True, False, False])

    async def look():
        return next(looks)

    probe = {"periodSeconds": 0, "failureThreshold": 2}
    said = verdicts(probe, look)
    assert [await anext(said) for _ in range(4)] == [True, False, True, False]
    await said.aclose()
