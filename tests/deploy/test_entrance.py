"""Goal: the gateway is reached from outside as clusters do it, by nobody who is not named. Method: helm renders."""

import kubernetes_validate

from tests.deploy.chart import objects, refusal, render
from tests.deploy.test_network import Network

INGRESS = ("gateway.ingress.enabled=true", "gateway.ingress.hosts[0]=llm.example.com")
ROUTE = (
    "gateway.httpRoute.enabled=true",
    "gateway.httpRoute.parentRefs[0].name=public",
    "gateway.httpRoute.hostnames[0]=llm.example.com",
)
FRONT = "networkPolicy.entrance[0].namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name=ingress"


def test_an_ingress_leads_to_the_gateway_and_ends_tls():
    tls = ("gateway.ingress.tls[0].secretName=llm", "gateway.ingress.tls[0].hosts[0]=llm.example.com")
    (ingress,) = objects("Ingress", render(*INGRESS, *tls, "gateway.ingress.className=nginx")).values()
    kubernetes_validate.validate(ingress, "1.33", strict=True)
    (rule,) = ingress["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert (rule["host"], backend) == ("llm.example.com", {"name": "demo-baton-gateway", "port": {"name": "http"}})
    assert ingress["spec"]["tls"] == [{"secretName": "llm", "hosts": ["llm.example.com"]}]
    assert ingress["spec"]["ingressClassName"] == "nginx"


def test_a_route_leads_to_the_gateway_and_lets_streams_last():
    """The Gateway API's schemas do not come with Kubernetes."""
    (route,) = objects("HTTPRoute", render(*ROUTE)).values()
    assert route["spec"]["parentRefs"] == [{"name": "public"}]
    (rule,) = route["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "demo-baton-gateway", "port": 8000}]
    assert rule["timeouts"] == {"request": "0s"}


def test_what_leads_to_a_gateway_that_is_not_there_is_refused():
    assert "gateway.enabled is false" in refusal(*INGRESS, "gateway.enabled=false")


def test_the_controller_reaches_the_gateway_alone_and_only_where_it_leads_there():
    assert not Network(render(FRONT)).allows("ingress", "gateway", 8000)
    for way in (INGRESS, ROUTE):
        network = Network(render(*way, FRONT))
        reached = {
            (target, port)
            for target in ("router", "prefill", "decode", "gateway", "redis")
            for port in (6379, 7450, 7460, 8000, 9400)
            if network.allows("ingress", target, port)
        }
        assert reached == {("gateway", 8000)}


def test_a_load_balancer_is_of_the_class_and_for_the_sources_that_are_named():
    wishes = (
        "gateway.service.type=LoadBalancer",
        "gateway.service.loadBalancerClass=service.k8s.aws/nlb",
        "gateway.service.loadBalancerSourceRanges[0]=203.0.113.0/24",
        "gateway.service.externalTrafficPolicy=Local",
        "gateway.service.nodePort=30080",
    )
    services = objects("Service", render(*wishes))
    spec = services["demo-baton-gateway"]["spec"]
    kubernetes_validate.validate(services["demo-baton-gateway"], "1.33", strict=True)
    assert spec["loadBalancerClass"] == "service.k8s.aws/nlb"
    assert spec["loadBalancerSourceRanges"] == ["203.0.113.0/24"]
    assert (spec["externalTrafficPolicy"], spec["ports"][0]["nodePort"]) == ("Local", 30080)
    assert "externalTrafficPolicy" not in services["demo-baton-router"]["spec"]


def test_every_service_has_the_families_that_are_asked_for():
    wishes = ("ipFamilies.policy=PreferDualStack", "ipFamilies.families[0]=IPv6", "ipFamilies.families[1]=IPv4")
    services = objects("Service", render(*wishes, "planner.enabled=true"))
    assert "demo-baton-redis" in services
    for service in services.values():
        kubernetes_validate.validate(service, "1.29", strict=True)
        assert service["spec"]["ipFamilyPolicy"] == "PreferDualStack"
        assert service["spec"]["ipFamilies"] == ["IPv6", "IPv4"]


def test_processes_are_found_by_a_port_forward_and_tell_peers_their_pods_address():
    """It arrives at a pod's loopback. What `*` means to a process: tests/observe/test_listener.py, tests/rpc."""
    manifests = render("autoscaling.mode=builtin")
    for name, each in objects("Deployment", manifests).items():
        (container,) = each["spec"]["template"]["spec"]["containers"]
        variables = {one["name"]: one.get("value") for one in container["env"]}
        if name.endswith("redis"):
            assert "--bind * -::*" in container["args"]
            continue
        assert variables["BATON_LISTEN__HOST"] == "*"
        is_worker = name.endswith(("prefill", "decode"))
        assert variables.get("BATON_LISTEN__ADVERTISE") == ("$(POD_IP)" if is_worker else None)
    alone = objects("Deployment", render("listenHost=$(POD_IP)"))["demo-baton-redis"]["spec"]["template"]["spec"]
    assert "--bind $(POD_IP)" in alone["containers"][0]["args"]
