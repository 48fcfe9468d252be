"""Goal: who reaches whom, computed from the rendered policies as a network plugin would apply them."""

import ipaddress

import pytest

from tests.deploy.chart import EXAMPLES, objects, refusal, render

METADATA, INTERNET, NODE = "169.254.169.254", "93.184.216.34", "10.1.2.3"


def labels_of(manifests):
    """Labels of every pod of the release, by component."""
    found = {}
    for kind in ("Deployment", "Job"):
        for each in objects(kind, manifests).values():
            labels = each["spec"]["template"]["metadata"]["labels"]
            found[labels["app.kubernetes.io/component"]] = labels
    for pod in objects("Pod", manifests).values():
        found[pod["metadata"]["labels"]["app.kubernetes.io/component"]] = pod["metadata"]["labels"]
    return found


class Network:
    """Pods of the release, a stranger in the same namespace, one elsewhere, a scraper, and addresses outside."""

    def __init__(self, manifests):
        self.policies = [each["spec"] for each in objects("NetworkPolicy", manifests).values()]
        self.pods = {name: ("ns", labels) for name, labels in labels_of(manifests).items()}
        self.pods |= {"neighbour": ("ns", {"app": "shop"}), "elsewhere": ("other", {"app": "shop"})}
        self.pods |= {"prometheus": ("monitoring", {"app": "prometheus"}), "ingress": ("ingress", {"app": "nginx"})}
        self.pods["dns"] = ("kube-system", {"k8s-app": "kube-dns"})

    def allows(self, source, target, port, protocol="TCP"):
        """`target` is a pod's name or an address."""
        leaves = self._permits(source, "Egress", "egress", "to", target, port, protocol)
        return leaves and (
            target not in self.pods or self._permits(target, "Ingress", "ingress", "from", source, port, protocol)
        )

    def _permits(self, pod, kind, rules, peers, other, port, protocol):
        namespace, labels = self.pods[pod]
        if namespace != "ns":
            return True
        chosen = [p for p in self.policies if kind in p["policyTypes"] and selects(p["podSelector"], labels)]
        if not chosen:
            return True
        return any(
            self._matches(rule, peers, other) and opens(rule, port, protocol)
            for policy in chosen
            for rule in policy.get(rules, ())
        )

    def _matches(self, rule, peers, other):
        return peers not in rule or any(self._is(peer, other) for peer in rule[peers])

    def _is(self, peer, other):
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            if other in self.pods:
                return False
            address = ipaddress.ip_address(other)
            inside = [ipaddress.ip_network(each) for each in block.get("except", ())]
            return address in ipaddress.ip_network(block["cidr"]) and not any(address in each for each in inside)
        if other not in self.pods:
            return False
        namespace, labels = self.pods[other]
        if "namespaceSelector" in peer:
            if not selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace}):
                return False
        elif namespace != "ns":
            return False
        return selects(peer.get("podSelector", {}), labels)


def selects(selector, labels):
    assert set(selector) <= {"matchLabels"}, "this test reads matchLabels only"
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def opens(rule, port, protocol):
    return "ports" not in rule or any(
        each["protocol"] == protocol and each["port"] <= port <= each.get("endPort", each["port"])
        for each in rule["ports"]
    )


NEEDED = {
    *(
        ("neighbour", "router", 7450),
        ("neighbour", "gateway", 8000),
        ("gateway", "router", 7450),
        ("test", "router", 7450),
    ),
    *(("router", role, 7460) for role in ("prefill", "decode")),
    *((one, other, port) for one in ("prefill", "decode") for other in ("prefill", "decode") for port in (7460, 40000)),
    *((role, "redis", 6379) for role in ("router", "prefill", "decode")),
    *(("prometheus", role, 9400) for role in ("router", "prefill", "decode", "gateway")),
}
PORTS = (22, 53, 80, 443, 6379, 7450, 7460, 8000, 9400, 40000)


def test_exactly_the_needed_edges_are_open():
    network = Network(render("model.uri=hf://org/name"))
    ours = {"router", "prefill", "decode", "gateway", "redis", "test", "download"}
    assert ours <= set(network.pods)
    found = {
        (source, target, port)
        for source in network.pods
        for target in ours
        for port in PORTS
        if source != target or source in ("prefill", "decode")
        if network.allows(source, target, port)
    }
    pages = {edge for edge in found if edge[0] in ("prefill", "decode") and edge[1] in ("prefill", "decode")}
    assert {edge[2] for edge in pages} == {port for port in PORTS if port >= 1024}, "pages take a free port"
    # Pods of this namespace are clients, those of the release too: the default of networkPolicy.clients.
    clients = {edge for edge in found if edge[1:] in {("router", 7450), ("gateway", 8000)}}
    assert {edge[0] for edge in clients} == {"neighbour", "gateway", "test"}
    assert found - pages == NEEDED - pages


@pytest.mark.parametrize("stranger", ["neighbour", "elsewhere", "ingress", "gateway", "test"])
def test_clients_reach_neither_workers_nor_redis(stranger):
    network = Network(render())
    reached = [
        (target, port)
        for target in ("prefill", "decode", "redis")
        for port in PORTS
        if network.allows(stranger, target, port)
    ]
    assert not reached


@pytest.mark.parametrize("values", [None, *EXAMPLES], ids=lambda path: path.stem if path else "defaults")
def test_nothing_but_the_download_reaches_the_internet_and_nothing_the_metadata_address(values):
    network = Network(render(values=values))
    ours = [name for name, (namespace, _) in network.pods.items() if namespace == "ns" and name != "neighbour"]
    for name in ours:
        for port in PORTS:
            assert not network.allows(name, METADATA, port), name
            assert not network.allows(name, NODE, port), name
            assert network.allows(name, INTERNET, port) == (name == "download" and port == 443), (name, port)


@pytest.mark.parametrize("mode", ["none", "hpa", "keda-push", "builtin"])
def test_a_planner_reaches_redis_and_where_it_must_the_api_server_and_nothing_else(mode):
    network = Network(render("planner.enabled=true", f"autoscaling.mode={mode}"))
    pods = ("router", "prefill", "decode", "gateway", "neighbour", "redis")
    reached = {(name, port) for name in (*pods, METADATA, INTERNET, NODE) for port in (*PORTS, 6443)}
    reached = {edge for edge in reached if network.allows("planner", *edge)}
    api_server = {(NODE, 443), (NODE, 6443)} if mode == "builtin" else set()
    assert reached == {("redis", 6379)} | api_server


def test_people_reach_every_part_from_the_toolbox_and_nobody_reaches_it():
    network = Network(render("toolbox.enabled=true", "planner.enabled=true"))
    reached = {
        (target, port)
        for target in (*network.pods, METADATA, INTERNET, NODE)
        for port in PORTS
        if target != "toolbox" and network.allows("toolbox", target, port)
    }
    metrics = {(role, 9400) for role in ("router", "prefill", "decode", "gateway", "planner")}
    serving = {("router", 7450), ("prefill", 7460), ("decode", 7460), ("gateway", 8000)}
    assert reached == metrics | serving | {("dns", 53)}
    assert not any(network.allows(source, "toolbox", port) for source in network.pods for port in PORTS)


def test_without_a_toolbox_its_edges_are_not_there():
    """Who can label a pod could stand for it."""
    manifests = render()
    network = Network(manifests)
    labels = {**labels_of(manifests)["router"], "app.kubernetes.io/component": "toolbox"}
    network.pods["toolbox"] = ("ns", labels)
    assert not any(network.allows("toolbox", role, port) for role in ("prefill", "decode", "redis") for port in PORTS)


OPENSHIFT_DNS = (
    "networkPolicy.dns[0].namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name=openshift-dns",
    "networkPolicy.dnsPorts[0]=5353",
)


def test_names_are_asked_of_the_nodes_cache_and_of_whoever_else_is_said():
    network = Network(render())
    assert network.allows("router", "169.254.20.10", 53, "UDP")
    assert not network.allows("router", "169.254.20.10", 80)
    network = Network(render(*OPENSHIFT_DNS))
    network.pods["openshift"] = ("openshift-dns", {"dns": "default"})
    assert all(network.allows("router", "openshift", 5353, protocol) for protocol in ("UDP", "TCP"))
    assert not network.allows("router", "openshift", 53, "UDP")


def test_a_download_inside_walls_reaches_what_is_said_and_no_more():
    rule = "networkPolicy.download.extra[0]"
    extra = (f"{rule}.to[0].ipBlock.cidr=10.1.2.0/24", f"{rule}.ports[0].port=9000", f"{rule}.ports[0].protocol=TCP")
    network = Network(render("model.uri=hf://org/name", *extra))
    assert network.allows("download", NODE, 9000)
    assert not network.allows("download", NODE, 443)
    assert network.allows("download", INTERNET, 443)
    walled = Network(render("model.uri=hf://org/name", *extra, "networkPolicy.download.peers=null"))
    assert walled.allows("download", NODE, 9000)
    assert not walled.allows("download", INTERNET, 443)


def test_a_redis_elsewhere_is_reached_where_it_is_said_to_be():
    away = ("redis.embedded.enabled=false", "redis.external.existingSecret=mine")
    assert "redis.external.peers" in refusal(*away)
    network = Network(render(*away, "redis.external.peers[0].ipBlock.cidr=10.1.2.3/32"))
    assert network.allows("decode", NODE, 6379)
    assert render(*away, "networkPolicy.enabled=false")


def test_names_are_resolved_by_those_who_dial_by_name():
    network = Network(render())
    for name in ("router", "prefill", "decode", "gateway", "test"):
        assert network.allows(name, "dns", 53, "UDP")
    assert not network.allows("redis", "dns", 53, "UDP")


def test_spans_reach_the_collector_from_those_who_send_them_and_only_once_there_is_one():
    elsewhere = [("elsewhere", 4317), ("prometheus", 9400), (INTERNET, 4317)]
    for role in ("router", "gateway", "prefill", "decode"):
        assert not Network(render()).allows(role, "prometheus", 4317)
        traced = Network(render("config.tracing.endpoint=http://otel.monitoring:4317"))
        assert traced.allows(role, "prometheus", 4317) == (role in ("router", "gateway"))
        assert not any(traced.allows(role, name, port) for name, port in elsewhere)
    only_router = Network(render("router.config.tracing.endpoint=https://otel.monitoring"))
    assert only_router.allows("router", "prometheus", 443)
    assert not only_router.allows("gateway", "prometheus", 443)
