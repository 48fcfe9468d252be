"""Goal: every metric is named, bounded and explained the same way."""

import re

import pytest

from common.observe.catalogue import CATALOGUE, E2E_BUCKETS, ITL_BUCKETS, TTFT_BUCKETS
from common.observe.metric import Metric, MetricKind

UNITS = ("seconds", "bytes", "ratio", "tokens", "rows")
FORBIDDEN_LABELS = {"request", "request_id", "tenant", "worker", "worker_id", "router", "user", "address"}


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_a_metric_follows_the_naming_rules(metric: Metric) -> None:
    assert re.fullmatch(r"baton_[a-z0-9_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is MetricKind.COUNTER)
    assert metric.sentence.endswith(".")
    assert metric.roles
    if metric.unit:
        assert metric.unit in UNITS
        assert metric.name.removesuffix("_total").endswith(metric.unit)
    assert bool(metric.buckets) == (metric.kind is MetricKind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_a_metric_is_bounded_and_never_labelled_by_request_or_tenant(metric: Metric) -> None:
    assert metric.max_series <= 1000
    assert not {label.name for label in metric.labels} & (FORBIDDEN_LABELS | {"role", "le"})


def test_names_are_unique_even_without_their_suffixes() -> None:
    stems = [metric.name.removesuffix("_total") for metric in CATALOGUE]
    assert len(stems) == len(set(stems))


def test_buckets_have_an_edge_at_the_usual_thresholds() -> None:
    assert {0.2, 0.5, 1, 2, 5} <= set(TTFT_BUCKETS)
    assert {0.02, 0.03, 0.05, 0.1, 0.2} <= set(ITL_BUCKETS)
    assert {1, 5, 10, 30, 60} <= set(E2E_BUCKETS)
