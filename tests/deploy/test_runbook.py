"""Goal: who is woken finds what to do, and what the runbook tells them to type, to look at and to change exists."""

import dataclasses
import re
import shlex

import pytest
import typer.main
import yaml

from common.config.config import Config
from deploy.alerts import ALERTS
from services.local.cli import app
from tests.architecture.source import ROOT
from tests.architecture.test_metrics import documents
from tests.deploy.chart import CHART, helm

RUNBOOK = (ROOT / "docs/runbook.md").read_text()
ENTRIES = dict(re.findall(r"(?ms)^### (\S+)\n\n(.+?)(?=^### |\Z)", RUNBOOK))
TYPED = re.compile(r"`(baton [^`]+)`|^\s*(baton [a-z-].*)$", re.MULTILINE)
"""Inline, or a line of its own in a block."""

COMMANDS = typer.main.get_command(app)


def test_every_alert_has_one_entry_and_every_entry_an_alert():
    assert sorted(ENTRIES) == sorted(alert.name for alert in ALERTS)
    assert len(re.findall(r"(?m)^### ", RUNBOOK)) == len(ENTRIES)


@pytest.mark.parametrize("alert", [alert.name for alert in ALERTS])
def test_an_entry_says_what_it_means_how_to_see_it_and_what_to_do(alert):
    meaning, see, rest = ENTRIES[alert].partition("**See:**")
    seen, do, done = rest.partition("**Do:**")
    assert see, "nothing to look at"
    assert do, "nothing to do"
    assert all(len(part.split()) > 3 for part in (meaning, seen, done))


def test_other_alerts_and_entries_that_are_referred_to_exist():
    assert set(re.findall(r"\bBaton[A-Z]\w+", RUNBOOK)) <= set(ENTRIES)
    headings = re.findall(r"(?m)^## (.+)$", RUNBOOK)
    assert all(name in headings for name in re.findall(r'"([A-Z][^"]+)" above', RUNBOOK))


@pytest.mark.parametrize("release", ["baton", "demo", "team-baton-eu"])
def test_objects_that_are_typed_exist_whatever_the_release_is_called(release):
    """NAME as the documents explain it."""
    name = release if "baton" in release else f"{release}-baton"
    done = helm("template", release, str(CHART), "--set", "toolbox.enabled=true")
    made = {(each["kind"].lower(), each["metadata"]["name"]) for each in yaml.safe_load_all(done.stdout) if each}
    readme = (CHART / "README.md").read_text()
    named = re.findall(r"(deployment|secret)[/ ]NAME(-[a-z-]+)", RUNBOOK + readme)
    assert len(named) > 5
    assert {(kind, name + rest) for kind, rest in named} <= made
    assert "RELEASE-" not in (RUNBOOK + readme).replace("RELEASE-baton, or RELEASE alone", "")


def test_knobs_and_values_that_it_names_exist():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    sections = {each.name: each.default_factory for each in dataclasses.fields(Config) if each.name != "origins"}
    named = set(re.findall(r"`([a-z_]+(?:\.[A-Za-z_*]+)+)`", RUNBOOK))
    assert len(named) > 10
    for name in named:
        section, _, knob = name.partition(".")
        is_knob = section in sections and knob in {each.name for each in dataclasses.fields(sections[section]())}
        assert is_knob or reached(values, name.split(".")), name


def reached(values, path):
    """Whether the chart's values have it; `*` stands for any key."""
    if not path:
        return True
    below = values.values() if path[0] == "*" else [values[path[0]]] if path[0] in values else []
    return any(reached(each, path[1:]) if isinstance(each, dict) else len(path) == 1 for each in below)


def typed():
    for path in documents():
        for match in TYPED.finditer((ROOT / path).read_text()):
            yield path, (match[1] or match[2]).strip()


def wrong_with(line):
    """What the command line would say to this, or nothing. Words in capitals stand for what a reader fills in."""
    words = [word for word in shlex.split(line.partition("#")[0].rstrip("\\"), posix=True) if word != "..."][1:]
    command = COMMANDS
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            option = next(
                (each for each in command.params if word.partition("=")[0] in [*each.opts, "-h", "--help"]), None
            )
            if option is None:
                return f"{command.name} has no {word}"
            if words and "=" not in word and not getattr(option, "is_flag", False):
                words.pop(0)
        elif commands := getattr(command, "commands", None):
            if word.isupper():
                break
            if word not in commands:
                return f"{command.name} has no command {word}"
            command = commands[word]
    return ""


def test_what_documents_tell_people_to_type_exists():
    lines = list(typed())
    assert len(lines) > 30
    wrong = [f"{path}: {line}: {wrong}" for path, line in lines if (wrong := wrong_with(line))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("line", ["baton tip", "baton top --often", "baton --key FOLDER top", "baton bench moon"])
def test_what_does_not_exist_is_found(line):
    assert wrong_with(line)
