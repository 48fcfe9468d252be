"""Goal: `helm install` brings up a cluster that answers; upgrade and rollback lose nothing; uninstall leaves nothing.

Method: the CPU trial of the examples, real weights and all, on the real control plane. One release for the tests here.
"""

import asyncio
import http.client
import json
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from tests.cluster.house import Ask
from tests.kube.chart import Helm
from tests.kube.release import NAMESPACE, Release, ask, check_whole

pytestmark = [pytest.mark.kube, pytest.mark.cluster, pytest.mark.calm, pytest.mark.timeout(300)]
FIRST_TOKEN_S = 60.0
PATIENCE_S = 150.0
"""Of the other tests here, on a machine that does other things as well."""
ASK = Ask(tokens=tuple(range(1, 40)), max_tokens=8)
EVERY_S = 0.25
MODEL = "demo"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def trial(cluster, tmp_path_factory):
    """The release, and the seconds from `helm install` to its first token."""
    plane, kubelet = cluster
    helm = Helm(plane, NAMESPACE, tmp_path_factory.mktemp("trial") / "helm")
    release = Release(name="trial", helm=helm, plane=plane, kubelet=kubelet)
    people = ("--set", "toolbox.enabled=true")
    began = await release.install("--values", str(helm.chart / "examples/cpu-trial.yaml"), *people)
    told = None
    async with asyncio.timeout(PATIENCE_S), release.client() as client:
        while told is None or told.error is not None:
            told = await ask(client, ASK)
    await release.wait_rolled_out()
    yield release, told.times[0] - began
    await release.uninstall()
    left = (await release.get("pods"))["items"] + (await release.get("deployments"))["items"]
    assert not left, [each["metadata"]["name"] for each in left]


@asynccontextmanager
async def repeatedly(every_s, send):
    """Inside the block, whether or not earlier ones were answered. The list of answers is whole when it ends."""
    told, tasks, is_over = [], [], asyncio.Event()

    async def go():
        while not is_over.is_set():
            tasks.append(asyncio.create_task(send()))
            await asyncio.sleep(every_s)

    sender = asyncio.create_task(go())
    try:
        yield told
    finally:
        is_over.set()
        await sender
        told += await asyncio.gather(*tasks)


async def complete(release):
    """A completion over HTTP, as an OpenAI client asks for it: its status and its number of tokens."""
    host = await release.kubelet.services.address(NAMESPACE, f"{release.name}-baton-gateway")
    body = {"model": MODEL, "prompt": "The baton passes", "max_tokens": 4, "ignore_eos": True}

    def post():
        call = http.client.HTTPConnection(host, 8000, timeout=60)
        try:
            call.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            answer = call.getresponse()
            return answer.status, json.loads(answer.read()).get("usage", {}).get("completion_tokens")
        finally:
            call.close()

    return await asyncio.to_thread(post)


async def test_the_first_token_comes_within_a_minute_of_helm_install(trial):
    _, took_s = trial
    print(f"helm install to first token: {took_s:.1f} s")
    assert took_s < FIRST_TOKEN_S


async def test_helm_test_asks_a_router_and_gets_an_answer(trial):
    release, _ = trial
    assert "Phase:          Succeeded" in await release.helm("test", release.name)


async def test_people_look_at_every_part_from_the_toolbox(trial):
    """With the operator's certificate, which is the pod's; nothing else is said to the commands."""
    release, _ = trial
    ((name,), pods) = await names(release, "toolbox"), release.kubelet.pods.values()
    (toolbox,) = (pod for pod in pods if pod.name == name)
    for command, word in ((("top", "--count", "1"), "decode"), (("doctor",), "1 of 1 carry pages")):
        status = await toolbox.execute("toolbox", ["python", "-m", "services.local", *command])
        said = release.plane.children.log(f"pod-{name}-toolbox.exec", last=60)
        assert status == 0, said
        assert word in said, said


async def test_an_upgrade_and_a_rollback_lose_no_request_and_keep_what_was_minted(trial):
    """Both roll every worker over: their configuration changes, so does the checksum in their pods."""
    release, _ = trial
    before = await minted(release)
    workers = await names(release, "decode") | await names(release, "prefill")
    async with (
        release.client() as client,
        repeatedly(EVERY_S, lambda: ask(client, ASK)) as told,
        repeatedly(1.0, lambda: complete(release)) as completed,
    ):
        await release.install("--reuse-values", "--set", "config.engine.page_size=32")
        await release.wait_rolled_out()
        upgraded = await names(release, "decode") | await names(release, "prefill")
        await release.helm("rollback", release.name)
        await release.wait_rolled_out()
    assert not workers & upgraded
    assert not upgraded & await names(release, "decode")
    print(f"{len(told)} + {len(completed)} requests while everything was rolled over twice")
    assert len(told) > 40
    assert set(completed) == {(200, 4)}
    check_whole(told, max_tokens=ASK.max_tokens)
    assert await minted(release) == before


async def names(release, role):
    return {each["metadata"]["name"] for each in await release.pods(role)}


async def minted(release):
    """Secrets that the chart makes: an authority and passwords that changed would lock the running pods out."""
    found = (await release.get("secrets"))["items"]
    return {
        each["metadata"]["name"]: each["data"] for each in found if each["metadata"]["name"].startswith("trial-baton")
    }
