"""Goal: an upgrade heeds what is there. Method: helm asks an API server of our own."""

import base64

from tests.deploy.chart import objects, render
from tests.deploy.cluster import cluster, upgrade

SCALED = ("autoscaling.mode=hpa", "autoscaling.by=queue")
BROUGHT = "redis.embedded.existingSecret=mine"


def deployment(replicas, **annotations):
    metadata = {"name": "demo-baton-decode", "namespace": "ns", "annotations": annotations}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas}}


def secret(name, **texts):
    data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "ns"}, "data": data}


def passwords(**texts):
    return secret("mine", **texts)


def test_a_fleet_that_gets_a_scaler_keeps_its_size_until_the_scaler_looks():
    """helm takes back a number that the new manifest leaves out, and the API server reads none as one."""
    marks = objects("Deployment", render())["demo-baton-decode"]["metadata"]["annotations"]
    with cluster(deployment(7, **marks)) as address:
        decode = objects("Deployment", upgrade(address, *SCALED))["demo-baton-decode"]
    assert decode["spec"]["replicas"] == 7
    assert decode["metadata"]["annotations"] == marks, "and so do the upgrades after this one"


def test_a_fleet_at_none_is_woken_by_the_upgrade_that_brings_an_hpa_and_by_no_later_one():
    """An HPA takes none for switched off. Whoever switches a fleet off under an HPA means it."""
    marks = objects("Deployment", render())["demo-baton-decode"]["metadata"]["annotations"]
    hpa = {"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler"}
    hpa |= {"metadata": {"name": "demo-baton-decode", "namespace": "ns"}}
    for fleet in (deployment(0), deployment(0, **marks)):
        with cluster(fleet) as address:
            decode = objects("Deployment", upgrade(address, *SCALED))["demo-baton-decode"]
        assert decode["spec"]["replicas"] == 1
        with cluster(fleet, hpa) as address:
            decode = objects("Deployment", upgrade(address, *SCALED))["demo-baton-decode"]
        assert not decode["spec"].get("replicas")


def test_a_fleet_that_had_a_scaler_from_the_start_is_left_to_it():
    with cluster(deployment(7)) as address:
        decode = objects("Deployment", upgrade(address, *SCALED))["demo-baton-decode"]
    assert "replicas" not in decode["spec"]
    assert "annotations" not in decode["metadata"]


def test_passwords_that_are_brought_are_used_as_they_are_and_spelt_for_urls():
    with cluster(passwords(worker="w p@ss/1", router="r#2")) as address:
        urls = objects("Secret", upgrade(address, BROUGHT))["demo-baton-redis-urls"]["stringData"]
    assert (urls["worker"], urls["router"]) == ("w p@ss/1", "r#2")
    assert urls["worker-url"].startswith("redis://baton-worker:w%20p%40ss%2F1@")
    assert urls["router-url"].startswith("redis://baton-router:r%232@")


def test_a_password_that_is_not_brought_is_missed_by_name_and_not_made_anew_each_time():
    with cluster(passwords(worker="w", router="r")) as address:
        assert "has no password `planner`" in upgrade(address, BROUGHT, "planner.enabled=true")
    with cluster(passwords(worker="w")) as address:
        assert "has no password `router`" in upgrade(address, BROUGHT)
