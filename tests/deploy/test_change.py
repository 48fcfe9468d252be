"""Goal: a change of Secrets reaches who read them, and nobody else; a change of who signs cuts nobody off.

Method: helm asks an API server of our own that has what an installation left behind.
"""

import base64

from cryptography import x509

from tests.deploy.chart import objects, render
from tests.deploy.cluster import cluster, upgrade
from tests.deploy.test_lookup import secret

KEY = "s" * 16
BROUGHT = ("gateway.existingSecret=keys", "secret.existingSecret=cluster")


def checksums(manifests):
    """What each workload says of the Secrets that it read."""
    found = objects("Deployment", manifests)
    return {
        name.removeprefix("demo-baton-"): each["spec"]["template"]["metadata"]["annotations"].get("checksum/secrets")
        for name, each in found.items()
    }


def kept(manifests):
    """What an installation left behind: its Secrets, as the API server has them."""
    found = []
    for name, each in objects("Secret", manifests).items():
        text = each.get("stringData", {})
        data = each.get("data", {}) | {key: base64.b64encode(value.encode()).decode() for key, value in text.items()}
        found.append({**each, "metadata": {"name": name, "namespace": "ns"}, "data": data})
    return found


def upgraded(*settings, there=()):
    with cluster(*there) as address:
        found = upgrade(address, *settings)
    assert not isinstance(found, str), found
    return found


def test_secrets_that_stayed_restart_nobody_and_those_that_changed_their_readers():
    first = [secret("keys", credentials="a"), secret("cluster", secret=KEY)]
    installed = upgraded(*BROUGHT, there=first)
    before = checksums(installed)

    def restarted(*there):
        after = checksums(upgraded(*BROUGHT, there=there))
        return {role for role in after if after[role] != before[role]}

    assert set(before) == {"redis", "router", "prefill", "decode", "gateway"}
    assert not restarted(*first, *kept(installed))
    assert restarted(secret("keys", credentials="b"), first[1], *kept(installed)) == {"gateway"}
    lost = [each for each in kept(installed) if each["metadata"]["name"] != "demo-baton-redis-urls"]
    assert restarted(*first, *lost) == {"redis", "router", "prefill", "decode"}, "passwords are new"


def test_a_secret_that_cannot_be_seen_is_no_reason_to_restart():
    """Where manifests are rendered elsewhere, and the Secret is brought by something else."""
    assert checksums(render(*BROUGHT))["gateway"] is None


def test_a_token_that_was_mended_is_tried():
    fetched = ("model.uri=hf://org/name", "model.download.existingSecret=hub", "secret.existingSecret=cluster")
    names = []
    for token in ("wrong", "wrong", "right"):
        there = (secret("hub", HF_TOKEN=token), secret("cluster", secret=KEY))
        names += objects("Job", upgraded(*fetched, there=there))
    assert names[0] == names[1] != names[2]


def test_from_helm_to_cert_manager_the_authority_stays():
    """Pods that run and pods that start trust each other through the change."""
    installed = kept(upgraded())
    authority = next(each for each in installed if each["metadata"]["name"] == "demo-baton-ca")["data"]
    after = upgraded("tls.mode=certManager", there=installed)
    assert objects("Secret", after)["demo-baton-ca"]["data"] == authority
    assert objects("Issuer", after)["demo-baton-ca"]["spec"] == {"ca": {"secretName": "demo-baton-ca"}}
    assert "demo-baton-ca" not in objects("Certificate", after)
    ours = {each["metadata"]["name"] for each in installed}
    theirs = {each["spec"]["secretName"] for each in objects("Certificate", after).values()}
    assert not ours & theirs, "what helm owns cert-manager does not write"


def test_from_cert_manager_to_helm_the_authority_stays():
    made = objects("Secret", render())["demo-baton-ca"]["data"]
    pem = {key: base64.b64decode(text).decode() for key, text in made.items()}
    after = objects("Secret", upgraded(there=(secret("demo-baton-authority", **pem),)))
    assert after["demo-baton-ca"]["data"]["tls.crt"] == made["tls.crt"]
    leaf = x509.load_pem_x509_certificate(base64.b64decode(after["demo-baton-router-tls"]["data"]["tls.crt"]))
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(pem["tls.crt"].encode()))


def test_a_fresh_authority_of_cert_manager_is_not_one_that_helm_would_claim():
    certificates = objects("Certificate", render("tls.mode=certManager"))
    assert certificates["demo-baton-ca"]["spec"]["secretName"] == "demo-baton-authority"
    api = render("tls.mode=certManager", "autoscaling.mode=builtin")
    (service,) = objects("APIService", api).values()
    injected = service["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
    assert injected == "ns/demo-baton-planner"
    assert "demo-baton-planner" in objects("Certificate", api)
