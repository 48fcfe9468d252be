"""Goal: a command imports its own part of the house, and --help still knows them all."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from services.local.cli import HOMES, app
from services.local.exits import Exit
from tests.architecture.source import ROOT

RUN = """
import sys
from typer.testing import CliRunner
from services.local.cli import app
result = CliRunner().invoke(app, sys.argv[1:])
print(result.exit_code, *sorted(sys.modules))
"""


def imported_by(*arguments: str) -> set[str]:
    """All modules of a new process that ran this command and was content."""
    ran = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    code, *modules = ran.stdout.split()
    assert code == "0", ran.stdout[:2000]
    return set(modules)


def test_a_command_imports_no_other_command() -> None:
    modules = imported_by("config")
    assert {name for name in modules if name.startswith("services.local.commands.")} == {
        "services.local.commands.config"
    }
    rooms = {".".join(name.split(".")[:2]) for name in modules}
    assert not rooms & {"services.simulator", "common.rpc", "common.directory", "common.kv", "protos.baton"}
    assert not modules & {"services.local.bench", "services.local.cluster", "grpc", "numpy"}


@pytest.mark.parametrize("command", ["top", "generate", "bench", "simulate"])
def test_what_a_command_takes_is_told_without_the_other_commands(command: str) -> None:
    modules = imported_by(command, "--help")
    assert ("services.local.bench.command" in modules) == (command == "bench")
    others = {name for name, home in HOMES.items() if name != command and home.partition(":")[0] in modules}
    assert not others


def test_every_file_of_a_command_is_on_the_shelf() -> None:
    files = {f"services.local.commands.{path.stem}" for path in (ROOT / "services/local/commands").glob("[!_]*.py")}
    assert files <= {home.partition(":")[0] for home in HOMES.values()}


def test_a_name_that_is_nearly_one_is_told_which() -> None:
    result = CliRunner().invoke(app, ["genrate"])
    assert result.exit_code == Exit.USAGE
    assert "Did you mean 'generate'?" in result.output
