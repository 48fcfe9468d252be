"""Goal: every query parses and speaks of metrics that exist; every alert has words and an entry in the runbook."""

import json
import re

import promql_parser
import yaml

from common.observe.catalogue import CATALOGUE
from common.observe.metric import MetricKind
from deploy.dashboards import DASHBOARDS
from deploy.rules import ADAPTER, SIGNALS
from tests.architecture.source import ROOT
from tests.deploy.chart import EVERYTHING, objects, render, rules

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


def test_alerts_on_objects_of_kubernetes_follow_the_name_that_values_give_them():
    values = (*EVERYTHING, "fullnameOverride=llama")
    (rule,) = objects("PrometheusRule", render(*values)).values()
    told = {
        each["alert"]: each["expr"] for group in rule["spec"]["groups"] for each in group["rules"] if "alert" in each
    }
    hpas, jobs = (
        re.search(rf'{label}=~"([^"]+)"', told[alert])
        for label, alert in (("horizontalpodautoscaler", "BatonHpaAtMaximum"), ("job_name", "BatonDownloadFailed"))
    )
    assert all(re.fullmatch(hpas[1], name) for name in objects("HorizontalPodAutoscaler", render(*values)))
    assert all(re.fullmatch(jobs[1], name) for name in objects("Job", render(*values)))
