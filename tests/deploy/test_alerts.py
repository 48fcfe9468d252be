"""Goal: each alert fires when it should, alone, and says what it should. Method: promtool with the chart's rules."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from deploy.alerts import ALERTS
from tests.deploy import burn_cases
from tests.deploy.alert_case import Case, document
from tests.deploy.burn_cases import BURN_CASES
from tests.deploy.cause_cases import CAUSE_CASES
from tests.deploy.chart import rules
from tests.deploy.foundation_cases import FOUNDATION_CASES

CASES = (*BURN_CASES, *CAUSE_CASES, *FOUNDATION_CASES)


@pytest.fixture
def promtool() -> str:
    """Debian's package `prometheus` has it, on the path or named by BATON_PROMTOOL."""
    found = os.environ.get("BATON_PROMTOOL") or shutil.which("promtool")
    if not found:
        pytest.skip("needs promtool (Debian, Ubuntu: apt install prometheus), on the path or in BATON_PROMTOOL")
    return found


def check(promtool: str, folder: Path, cases: Iterable[Case], every: str) -> None:
    text = yaml.safe_dump(rules())
    runbooks = {url.partition("#")[0] for url in re.findall(r"runbook_url: (\S+)", text)}
    (runbook,) = runbooks
    (folder / "rules.yaml").write_text(text)
    tests = document(cases, rules=rules(), runbook=runbook, every=every)
    (folder / "alerts.yaml").write_text(yaml.safe_dump(tests))
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "alerts.yaml"]):
        done = subprocess.run(
            [promtool, *command], check=False, cwd=folder, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_rests() -> None:
    names = {alert.name for alert in ALERTS}
    assert {page.alert for case in CASES for page in case.fires} == names
    assert {alert for case in CASES for alert in case.rests} == names
    assert not any(set(case.rests) & {page.alert for page in case.fires} for case in CASES)
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_promise_wakes_somebody_while_it_is_broken_over_both_windows_of_a_pair(promtool: str, tmp_path: Path) -> None:
    check(promtool, tmp_path, BURN_CASES, burn_cases.EVERY)


def test_what_is_wrong_inside_is_told_with_its_labels_and_words_and_nothing_else(promtool: str, tmp_path: Path) -> None:
    check(promtool, tmp_path, (*CAUSE_CASES, *FOUNDATION_CASES), "5m")
