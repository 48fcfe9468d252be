"""Goal: what goes to a child process is a copy, never the live environment."""

import os

import pytest

from common.config.environment import child_environment, environment


def test_a_child_gets_the_extras_and_this_process_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_LISTEN__PORT", "1")
    child = child_environment({"BATON_LISTEN__PORT": "2"})
    assert child["BATON_LISTEN__PORT"] == "2"
    assert environment()["BATON_LISTEN__PORT"] == "1"
    child["ANOTHER"] = "x"
    assert "ANOTHER" not in os.environ
