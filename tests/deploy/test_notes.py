"""Goal: what will not work as it was installed is said while installing.

Method: `helm template` leaves the notes out, so a copy of the chart shows them as an object.
"""

import shutil

import pytest
import yaml

from tests.deploy.chart import CHART, helm

SHOWN = """
apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data: {text: {{ tpl (.Files.Get "notes.txt") . | toJson }}}
"""


@pytest.fixture
def notes(tmp_path):
    chart = shutil.copytree(CHART, tmp_path / "baton")
    (chart / "templates/NOTES.txt").rename(chart / "notes.txt")
    (chart / "templates/shown.yaml").write_text(SHOWN)

    def said(*settings: str) -> str:
        flags = [flag for setting in settings for flag in ("--set", setting)]
        done = helm("template", "demo", str(chart), "--namespace", "ns", "--show-only", "templates/shown.yaml", *flags)
        assert done.returncode == 0, done.stderr
        return yaml.safe_load(done.stdout)["data"]["text"]

    return said


def test_a_fetch_says_where_it_is_followed(notes):
    assert "logs --follow job/demo-baton-model-" in notes("model.uri=hf://org/name")
    assert "job/" not in notes()


def test_prompts_that_pass_in_the_clear_are_warned_of(notes):
    way = "gateway.ingress.enabled=true"
    assert "gateway.ingress.tls is empty" in notes(way)
    assert "gateway.ingress.tls" not in notes(way, "gateway.ingress.tls[0].secretName=mine")
    assert "networkPolicy.entrance" in notes(way)


def test_alerts_that_see_nothing_or_lead_nowhere_are_warned_of(notes):
    rules = "monitoring.prometheusRule.enabled=true"
    assert "BatonMetricsAbsent" in notes(rules)
    assert "docs/runbook.md of this repository" in notes(rules)
    told = notes(rules, "monitoring.podMonitor.enabled=true", "monitoring.prometheusRule.runbookUrl=https://wiki/x.md")
    assert "WARNING: monitoring" not in told
    assert "runbook" not in told
