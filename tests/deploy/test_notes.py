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


def test_a_redis_that_nobody_may_reach_is_warned_of(notes):
    away = ("redis.embedded.enabled=false", "redis.external.existingSecret=mine")
    assert "redis.external.peers is empty" in notes(*away)
    assert "redis.external" not in notes(*away, "redis.external.peers[0].ipBlock.cidr=10.9.8.7/32")
    assert "redis.external" not in notes()


def test_alerts_that_see_nothing_or_lead_nowhere_are_warned_of(notes):
    rules = "monitoring.prometheusRule.enabled=true"
    assert "BatonMetricsAbsent" in notes(rules)
    assert "link to nowhere" in notes(rules)
    told = notes(rules, "monitoring.podMonitor.enabled=true", "monitoring.prometheusRule.runbookUrl=https://wiki/x.md")
    assert "WARNING: monitoring" not in told
