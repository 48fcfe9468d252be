"""Goal: Helm 4 makes of the chart what Helm 3 makes of it, lints it clean, and refuses the same values by name."""

import pytest

from tests.deploy.chart import EVERYTHING, EXAMPLES, render, without_minted
from tests.deploy.helm4 import ask, values_of

CASES = [pytest.param((), None, id="defaults"), pytest.param(EVERYTHING, None, id="everything")]
CASES += [pytest.param((), path, id=path.stem) for path in EXAMPLES]


def comparable(manifests):
    """By kind and name, without what is minted anew each time."""
    found = {}
    for each in manifests:
        secret = {key: sorted(each[key]) for key in ("data", "stringData") if each["kind"] == "Secret" and key in each}
        found[each["kind"], each["metadata"]["name"]] = without_minted(each) | secret
    return found


@pytest.mark.parametrize(("settings", "values"), CASES)
def test_both_versions_of_helm_render_the_same_objects(settings, values):
    assert comparable(ask("render", values_of(settings, values))) == comparable(render(*settings, values=values))


@pytest.mark.parametrize(("settings", "values"), CASES)
def test_the_strict_linter_of_helm_4_finds_nothing(settings, values):
    assert not ask("lint", values_of(settings, values))


@pytest.mark.parametrize("setting", ["prefil.replicas=2", "config.engine.page_sise=8", "tls.mode=off"])
def test_helm_4_refuses_a_wrong_value_by_its_name(setting):
    name = setting.partition("=")[0].rpartition(".")[2] if "sise" in setting else setting.split(".")[0]
    said = ask("render", values_of((setting,), None))
    assert isinstance(said, str)
    assert name in said
