"""Goal: one version, wherever it has to be written down for others."""

import tomllib

import yaml

from common.core.version import VERSION
from tests.architecture.source import ROOT


def test_package_chart_and_processes_bear_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((ROOT / "deploy/helm/baton/Chart.yaml").read_text())
    assert (project["version"], chart["version"], chart["appVersion"]) == (VERSION, VERSION, VERSION)
