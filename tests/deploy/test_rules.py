"""Goal: every query parses and speaks of metrics that exist; each alert fires when it should, and is in the runbook."""

import json
import os
import re
import shutil
import subprocess

import promql_parser
import pytest
import yaml

from common.observe.catalogue import CATALOGUE
from common.observe.metric import MetricKind
from deploy.alerts import ALERTS
from deploy.dashboards import DASHBOARDS
from deploy.rules import ADAPTER, SIGNALS
from tests.architecture.source import ROOT
from tests.deploy.alert_cases import CASES, promtool_tests
from tests.deploy.chart import objects, render, rules

METRICS = {metric.name: metric for metric in CATALOGUE}
NAME = re.compile(r"\b(baton[_:][a-z0-9_:]+)")
ADDED = {"namespace", "release", "pod", "role", "le"}
"""Labels that every process or the scrape adds."""


def series_of(name):
    """The metric behind a series' name."""
    for suffix in ("_bucket", "_sum", "_count"):
        base = name.removesuffix(suffix)
        if base in METRICS and METRICS[base].kind is MetricKind.HISTOGRAM:
            return METRICS[base]
    return METRICS.get(name)


def rule_list():
    return [rule for group in rules()["groups"] for rule in group["rules"]]


def panel_queries():
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                yield f"{name}: {panel['title']}", target["expr"].replace("$__rate_interval", "1m")


def queries():
    yield from panel_queries()
    for rule in rule_list():
        yield rule.get("alert") or rule["record"], rule["expr"]


def test_every_query_parses_and_names_what_there_is():
    recorded = {rule["record"] for rule in rule_list() if "record" in rule}
    num_queries = 0
    for place, query in queries():
        promql_parser.parse(query)
        for name in NAME.findall(query):
            assert name in recorded or series_of(name) is not None, f"{place}: {name}"
        num_queries += 1
    assert num_queries > 80


def test_every_label_in_a_query_is_one_that_its_metric_has():
    for place, query in queries():
        for name, conditions in re.findall(r"(baton_[a-z0-9_]+)\{([^}]*)\}", query):
            metric = series_of(name)
            labels = set(re.findall(r"([a-z_]+)(?:=~|!~|!=|=)\"", conditions))
            assert labels <= ADDED | {label.name for label in metric.labels}, f"{place}: {name}"


def test_the_adapter_shows_what_is_recorded_and_the_hpas_ask_for():
    recorded = {rule["record"] for rule in rule_list() if "record" in rule}
    assert set(SIGNALS) <= recorded
    assert set(ADAPTER.values()) == set(SIGNALS)
    manifests = render("autoscaling.mode=hpa", "autoscaling.latency.enabled=true")
    asked = {
        metric["external"]["metric"]["name"]
        for each in (manifests, render("autoscaling.mode=hpa", "autoscaling.by=queue"))
        for hpa in objects("HorizontalPodAutoscaler", each).values()
        for metric in hpa["spec"]["metrics"]
    }
    assert asked == set(ADAPTER)
    shown = yaml.safe_load(objects("ConfigMap", manifests)["demo-baton-adapter-rules"]["data"]["externalRules.yaml"])
    assert {rule["name"]["as"] for rule in shown} == asked


def test_every_alert_has_words_and_an_entry_in_the_runbook():
    runbook = (ROOT / "docs/runbook.md").read_text()
    headings = {line.removeprefix("### ").strip() for line in runbook.splitlines() if line.startswith("### ")}
    for rule in rule_list():
        if "alert" not in rule:
            continue
        notes = rule["annotations"]
        assert notes["summary"]
        assert notes["description"]
        assert notes["runbook_url"].endswith(f"#{rule['alert'].lower()}")
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["alert"] in headings, f"docs/runbook.md has no entry ### {rule['alert']}"


def test_panels_of_a_dashboard_do_not_overlap_and_have_titles():
    for dashboard in DASHBOARDS.values():
        taken = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not cells & taken, panel["title"]
            taken |= cells
            assert panel["title"]
        json.dumps(dashboard)


@pytest.fixture
def promtool():
    """Debian's package `prometheus` has it, on the path or named by BATON_PROMTOOL."""
    found = os.environ.get("BATON_PROMTOOL") or shutil.which("promtool")
    if not found:
        pytest.skip("needs promtool (Debian, Ubuntu: apt install prometheus), on the path or in BATON_PROMTOOL")
    return found


def test_promtool_accepts_the_rules_and_each_alert_fires_and_rests(promtool, tmp_path):
    assert {alert for case in CASES for alert in case.fires} == {alert.name for alert in ALERTS}
    assert {alert for case in CASES for alert in case.rests} == {alert.name for alert in ALERTS}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(promtool_tests("rules.yaml")))
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "alerts.yaml"]):
        done = subprocess.run(
            [promtool, *command], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stdout + done.stderr
