"""`python -m deploy.generate`: writes the generated files of the chart; with --check it only says which are stale."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from deploy.dashboards import DASHBOARDS
from deploy.rules import adapter_rules, rule_groups
from deploy.schema import values_schema
from deploy.table import table

CHART = Path(__file__).parent / "helm" / "baton"
TABLE = "## Values\n\n"
"""What follows it in the README is generated."""

NOTE = "# Made by deploy/generate.py. NAMESPACE, RELEASE, FULLNAME and RUNBOOK are filled in by the chart.\n"


def generated() -> Iterator[tuple[Path, str]]:
    """Every generated file with what it should hold."""
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    readme = (CHART / "README.md").read_text()
    yield CHART / "README.md", readme.partition(TABLE)[0] + TABLE + table(text, values)
    yield CHART / "values.schema.json", _json(values_schema(values))
    yield CHART / "rules" / "rules.yaml", NOTE + _yaml(rule_groups())
    yield CHART / "rules" / "adapter.yaml", _yaml(adapter_rules())
    for name, dashboard in DASHBOARDS.items():
        yield CHART / "dashboards" / f"{name}.json", _json(dashboard)


def _json(value: object) -> str:
    return json.dumps(value, indent=1) + "\n"


def _yaml(value: object) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, width=1000))


def main() -> int:
    stale = [(path, text) for path, text in generated() if not path.exists() or path.read_text() != text]
    for path, text in stale:
        print(path.relative_to(CHART))
        if "--check" not in sys.argv:
            path.write_text(text)
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
