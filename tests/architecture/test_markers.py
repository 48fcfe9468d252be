"""What `make test` relies on: real processes are found by their file's text, and what shares a set-up by its name."""

import re

import pytest

from tests.architecture.source import ROOT
from tests.scopes import LONGEST, TOGETHER, place_of, scope_of

MARK = "pytest.mark.cluster"


def test_a_test_is_marked_cluster_in_its_own_file_and_in_full() -> None:
    hidden = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in sorted((ROOT / "tests").rglob("*.py"))
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"mark\.cluster|add_marker\(.cluster", line)
        and (MARK not in line or not file.name.startswith("test_"))
        and file.name != "test_markers.py"
    ]
    assert hidden == [], "the Makefile does not find these"


@pytest.mark.parametrize("beginning", [*TOGETHER, *LONGEST])
def test_what_is_together_or_first_is_there(beginning: str) -> None:
    assert (ROOT / beginning).exists()


@pytest.mark.parametrize("beginning", [each for each in LONGEST if each.endswith(".py")])
def test_what_begins_first_is_calm(beginning: str) -> None:
    """Others run alone, in no order."""
    assert "pytest.mark.calm" in (ROOT / beginning).read_text(encoding="utf-8")


def test_tests_that_share_a_set_up_are_one_scope_and_others_are_alone() -> None:
    planes = {scope_of(f"tests/kube/test_{name}.py::test_x", by_file=True) for name in ("install", "scaling")}
    first, second = (f"tests/cluster/test_kill.py::test_{name}[a/b]" for name in "xy")
    assert len(planes) == 1
    assert scope_of(first, by_file=True) == scope_of(second, by_file=True) == "tests/cluster/test_kill.py"
    assert scope_of(first, by_file=False) == first
    assert scope_of("tests/oracle/test_oracle.py::test_x", by_file=False) == "tests/oracle/test_oracle.py"
    assert place_of("tests/kube/test_install.py::test_x") < place_of(first) < place_of("tests/cluster/test_vllm.py::x")
