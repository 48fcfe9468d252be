"""Documents, dashboards and alerts speak only of metrics that the catalogue has, and somebody tells each of those."""

import re

from common.observe import catalogue
from common.observe.metric import Metric
from tests.architecture.source import ROOT, report, sources

MENTION = re.compile(r"\bbaton_[a-z][a-z0-9_]*\b")
SERIES = ("_bucket", "_sum", "_count", "_created")
WRITTEN = ("*.md", "*.json", "*.yaml", "*.yml", "*.tpl", "*.rules")


def documents() -> list[str]:
    """Text that operators read or load, by path."""
    folders = [folder for folder in (ROOT / "docs", ROOT / "deploy") if folder.exists()]
    found = [path for folder in folders for pattern in WRITTEN for path in folder.rglob(pattern)]
    return [str(path.relative_to(ROOT)) for path in sorted([*found, *ROOT.glob("*.md")])]


def names() -> set[str]:
    """Every metric's name as Prometheus shows it."""
    return {value.name for value in vars(catalogue).values() if isinstance(value, Metric)}


def unknown_in(text: str, known: set[str]) -> list[str]:
    """Mentions that are neither a metric nor one of a histogram's series."""
    mentions = {match.group() for match in MENTION.finditer(text)}
    return sorted(name for name in mentions if name not in known and not _is_series_of(name, known))


def _is_series_of(name: str, known: set[str]) -> bool:
    return any(name.endswith(suffix) and name.removesuffix(suffix) in known for suffix in SERIES)


def test_documents_mention_only_metrics_of_the_catalogue():
    known = names()
    found = [f"{path}: {name}" for path in documents() for name in unknown_in((ROOT / path).read_text(), known)]
    assert not found, report(found, "a metric lives in common/observe/catalogue/")


def test_every_metric_is_told_by_somebody():
    """One that nobody sets is 0 for ever: an alert on it sleeps, and a document about it is wrong."""
    told = {
        chain.rpartition(".")[2]
        for source in sources("common", "services")
        if not source.path.is_relative_to("common/observe/catalogue")
        for chain, _ in source.attribute_chains()
    }
    silent = [name for name, value in vars(catalogue).items() if isinstance(value, Metric) and name not in told]
    assert "BUILD_INFO" in told
    assert not silent, report(silent, "a metric is set where what it counts happens")


def test_a_misspelled_metric_is_caught():
    known = names()
    assert known
    assert unknown_in("rate(baton_time_to_frist_token_seconds_bucket[1m])", known)
    assert not unknown_in("rate(baton_time_to_first_token_seconds_bucket[1m])", known)
