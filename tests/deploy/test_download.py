"""Goal: a model is fetched from where it lies, with the rights that it takes; a fetch that fails is seen.

Method: helm renders; the words of both containers are run by a real shell, with a double for the program that fetches.
"""

import os
import subprocess
import time

import pytest

from tests.deploy.chart import objects, render

HF = "model.uri=hf://org/name"
S3 = ("model.uri=s3://bucket/models/big", "model.download.image=aws:2")
SECONDS = 30


def fetch(*settings):
    (job,) = objects("Job", render(*settings)).values()
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return job, container


def command(*settings):
    """The line that fetches."""
    _, container = fetch(*settings)
    (line,) = (line for line in container["command"][-1].splitlines() if line.startswith(("hf ", "aws ")))
    return line


def test_a_revision_is_pinned_and_is_another_model():
    assert "--revision" not in command(HF)
    assert "--revision 'abc123'" in command(HF, "model.download.revision=abc123")
    claims = [
        set(objects("PersistentVolumeClaim", render(HF, f"model.download.revision={each}"))) for each in ("a", "b")
    ]
    assert not claims[0] & claims[1], "what is complete under one revision is not under the other"


def test_another_server_is_asked_where_one_is_named():
    minio = "model.download.endpoint=http://minio.storage:9000"
    assert command(*S3, minio).startswith(
        "aws s3 sync 's3://bucket/models/big' \"$model\" --endpoint-url 'http://minio"
    )
    _, container = fetch(HF, "model.download.endpoint=https://hub.example.com")
    assert {"name": "HF_ENDPOINT", "value": "https://hub.example.com"} in container["env"]


def test_a_proxy_is_environment():
    proxy = ("model.download.env[0].name=HTTPS_PROXY", "model.download.env[0].value=http://proxy:3128")
    assert {"name": "HTTPS_PROXY", "value": "http://proxy:3128"} in fetch(HF, *proxy)[1]["env"]


def test_a_rollout_waits_as_long_as_a_fetch_may_take():
    manifests = render(HF, "model.download.deadlineSeconds=9000", "decode.startupSeconds=300")
    (job,) = objects("Job", manifests).values()
    assert job["spec"]["activeDeadlineSeconds"] == 9000
    limits = {
        name: each["spec"].get("progressDeadlineSeconds") for name, each in objects("Deployment", manifests).items()
    }
    assert limits["demo-baton-decode"] == 300 + 600 + 9000
    assert limits["demo-baton-gateway"] == 120 + 600, "it waits for no model"


def test_tries_that_failed_keep_their_logs():
    assert fetch(HF)[0]["spec"]["template"]["spec"]["restartPolicy"] == "Never"


class Claim:
    """A volume, and both containers on it."""

    def __init__(self, folder, deadline_s=6):
        manifests = render(HF, f"model.download.deadlineSeconds={deadline_s}")
        (job,) = objects("Job", manifests).values()
        pod = objects("Deployment", manifests)["demo-baton-decode"]["spec"]["template"]["spec"]
        (waiter,) = pod["initContainers"]
        self._words = {"fetch": job["spec"]["template"]["spec"]["containers"][0]["command"], "wait": waiter["command"]}
        self._folder = folder
        self._models = folder / "models"
        self._models.mkdir()

    def start(self, what, *, program="exit 1"):
        (self._folder / "hf").write_text(f"#!/bin/sh\n{program}\n")
        (self._folder / "hf").chmod(0o700)
        words = [word.replace("/models/", f"{self._models}/") for word in self._words[what]]
        path = f"{self._folder}:{os.environ['PATH']}"
        return subprocess.Popen(words, env={"PATH": path, "HOSTNAME": "pod-7"}, stderr=subprocess.PIPE, text=True)

    def run(self, what, *, program="exit 1"):
        """Exit status and what was said."""
        with self.start(what, program=program) as process:
            said = process.communicate(timeout=SECONDS)[1]
        return process.returncode, said


@pytest.fixture
def claim(tmp_path):
    return Claim(tmp_path)


def test_a_fetch_that_fails_is_told_by_who_waits_and_the_next_one_ends_the_wait(claim):
    assert claim.run("fetch", program="exit 3")[0] == 3
    status, said = claim.run("wait")
    assert status == 1
    assert "ended with status 3: see the log of pod-7" in said
    assert claim.run("fetch", program="true")[0] == 0
    assert claim.run("wait") == (0, "")


def test_what_is_complete_is_not_fetched_again(claim):
    assert claim.run("fetch", program="true")[0] == 0
    assert claim.run("fetch", program="exit 3")[0] == 0


@pytest.mark.parametrize("what", ["fetch", "wait"])
def test_a_pod_that_is_deleted_meanwhile_leaves_at_once(claim, what):
    """As the first process of its container it would not hear of a signal that it did not ask for."""
    with claim.start(what, program="exec sleep 60") as process:
        time.sleep(1.0)
        process.terminate()
        assert process.wait(5) == 143, "ended by the signal, not by its own word"
    assert claim.run("fetch", program="true")[0] == 0
    assert claim.run("wait") == (0, "")


def test_who_waits_in_vain_says_so_in_the_end(tmp_path):
    status, said = Claim(tmp_path, deadline_s=0).run("wait")
    assert (status, said) == (1, "no model after 0 s\n")
