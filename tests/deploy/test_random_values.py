"""Whatever the schema admits is rendered into objects that Kubernetes takes, or refused in the chart's own words."""

import json
import random

import kubernetes_validate
import pytest
import yaml

from tests.deploy.chart import CHART, EVERYTHING, FOREIGN, helm
from tests.deploy.random_values import chart_schema, draw

SEED = 26_001
REFUSALS = ("execution error at", "values don't meet the specifications")
"""The chart's own `fail`, and the schema's; everything else is a template that breaks."""


@pytest.mark.parametrize(
    "seed", [*range(SEED, SEED + 12), *(pytest.param(SEED + 12 + n, marks=pytest.mark.slow) for n in range(300))]
)
def test_values_that_the_schema_admits_render(seed, tmp_path):
    chance = random.Random(seed)
    values = draw(chart_schema(), chance, chance.choice([1, 2, 4, 8]))
    print(json.dumps(values))
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    settings = [flag for setting in chance.choice([(), EVERYTHING]) for flag in ("--set", setting)]
    done = helm("template", "demo", str(CHART), "--namespace", "ns", "--kube-version", "1.33.0", *settings, "-f", file)
    if done.returncode:
        assert any(refusal in done.stderr for refusal in REFUSALS), done.stderr
        return
    assert "<no value>" not in done.stdout
    for manifest in yaml.safe_load_all(done.stdout):
        if manifest and not manifest["apiVersion"].startswith((*FOREIGN, "leaderworkerset.")):
            kubernetes_validate.validate(manifest, "1.33", strict=True)
