"""The labels that every series of a release has once it is scraped as the chart asks for it."""

NAMESPACE, RELEASE, FULLNAME = "NAMESPACE", "RELEASE", "FULLNAME"
"""Replaced by the chart when it renders rules. Objects of a release are named after the last, which values may set."""

HERE = f'namespace="{NAMESPACE}",release="{RELEASE}"'
"""One release, in rules."""

SHOWN = 'namespace="$namespace",release="$release"'
"""One release, in dashboards: their variables."""

BY = "namespace, release"


def series(metric: str, *conditions: str, where: str = HERE) -> str:
    """A selector: metric{namespace=...,release=...,conditions}."""
    return f"{metric}{{{','.join((where, *conditions))}}}"
