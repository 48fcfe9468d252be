"""The wire: stubs are fresh, the .proto files pass buf's lint, and nothing in them broke since the baseline."""

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from protos.generate import PACKAGES, generate, stubs_of
from tests.architecture.source import ROOT

PROTOS = ROOT / "protos"
BASELINE = PROTOS / "baseline.binpb"
BUF = Path(sysconfig.get_path("scripts")) / "buf"


def buf(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs buf in the module root."""
    return subprocess.run([BUF, *arguments], cwd=PROTOS, check=False, capture_output=True, text=True, timeout=110)


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_committed_stubs_are_what_the_generator_makes(tmp_path, package):
    """Generated again into an empty folder and compared byte by byte: `make proto` mends a difference."""
    generate(tmp_path, package)
    fresh = {path.name: path.read_text() for path in stubs_of(tmp_path)}
    committed = {path.name: path.read_text() for path in stubs_of(PROTOS / package)}
    assert sorted(committed) == sorted(fresh)
    stale = [name for name in fresh if committed[name] != fresh[name]]
    assert not stale, f"run `make proto`: {stale}"


def test_the_protos_pass_the_standard_lint():
    result = buf("lint")
    assert result.returncode == 0, result.stdout + result.stderr


def test_nothing_on_the_wire_broke_since_the_baseline():
    result = buf("breaking", "--against", str(BASELINE))
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_breaking_change_would_be_seen(tmp_path):
    """The same check against the baseline, with one field number changed, must fail."""
    for path in (PROTOS / "baton/v1").glob("*.proto"):
        target = tmp_path / "baton/v1" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text().replace("string worker_id = 1;", "string worker_id = 99;"))
    (tmp_path / "buf.yaml").write_text((PROTOS / "buf.yaml").read_text())
    (tmp_path / "externalscaler").mkdir()
    result = buf("breaking", str(tmp_path), "--against", str(BASELINE))
    assert result.returncode != 0


@pytest.mark.parametrize("path", sorted((PROTOS / "baton/v1").glob("*.proto")), ids=lambda path: path.name)
def test_messages_are_flat_and_closed(path):
    """No `Any` and no JSON-like `Struct` on the wire (S21): a parser's recursion limit is no defence to rely on."""
    assert not re.search(r"google\.protobuf\.(Any|Struct|Value)\b", path.read_text())
