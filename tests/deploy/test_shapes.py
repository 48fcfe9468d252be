"""Values that are objects or lists: what Kubernetes would refuse of an object is refused by the value's own name, and
`null`, which takes a default away, leaves the rest as it was."""

import json
from pathlib import Path

import pytest

from tests.deploy.chart import CHART, helm, refusal, render

WRONG = {
    "router.podLabels.team=42": "router.podLabels.team",
    "commonLabels.paid=true": "commonLabels.paid",
    "decode.nodeSelector.gpu=true": "decode.nodeSelector.gpu",
    "decode.extraEnv[0].name=A,decode.extraEnv[0].value=1": "decode.extraEnv.0.value",
    "global.imagePullSecrets={a}": "global.imagePullSecrets.0",
    "networkPolicy.clients={10.0.0.0/8}": "networkPolicy.clients.0",
}
BLOCK = ("podLabels", "podAnnotations", "nodeSelector", "affinity", "podSecurityContext", "resources", "config")
ABSENT = {
    **dict.fromkeys(("commonLabels", "podSecurityContext", "config")),
    **{
        role: dict.fromkeys((*BLOCK, "tolerations", "extraEnv"))
        for role in ("prefill", "decode", "router", "gateway", "planner")
    },
}


@pytest.mark.parametrize(("setting", "named"), WRONG.items())
def test_what_is_no_text_or_no_object_is_refused_by_its_name(setting: str, named: str) -> None:
    assert named in refusal(setting)


def test_what_is_right_is_taken() -> None:
    assert render("decode.extraEnv[0].name=A", "decode.extraEnv[0].value=b", "global.imagePullSecrets[0].name=a")


def test_null_takes_a_default_away_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(ABSENT))
    done = helm("template", "demo", str(CHART), "--namespace", "ns", "--values", str(file))
    assert done.returncode == 0, done.stderr
