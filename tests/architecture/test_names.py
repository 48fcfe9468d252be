"""The four generic top-level names mean this repository, whatever else is installed."""

import importlib.metadata
import json
import subprocess
import sys

import pytest

from tests.architecture.source import ROOT, TOP_LEVEL

RESOLVE = """
import importlib.util, json, sys
found = {}
for name in sys.argv[1:]:
    spec = importlib.util.find_spec(name)
    found[name] = list(spec.submodule_search_locations or []) if spec else []
print(json.dumps(found))
"""


@pytest.mark.parametrize("place", ["the repository", "elsewhere"])
def test_each_top_level_name_resolves_inside_the_repository(place, tmp_path):
    """Elsewhere only the installed distribution speaks: a foreign package of the same name would win over it."""
    folder = ROOT if place == "the repository" else tmp_path
    command = [sys.executable, "-c", RESOLVE, *TOP_LEVEL]
    output = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60).stdout
    locations = json.loads(output)
    assert locations == {name: [str(ROOT / name)] for name in TOP_LEVEL}


def test_no_installed_distribution_claims_a_name_of_ours():
    claimed = importlib.metadata.packages_distributions()
    strangers = {name: set(claimed.get(name, ())) - {"baton"} for name in TOP_LEVEL}
    assert not any(strangers.values()), f"foreign distributions with our names: {strangers}"
