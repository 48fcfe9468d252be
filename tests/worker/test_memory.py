"""Goal: pages are sized by what the process may take, not by what the host has. Method: control groups in a folder."""

from pathlib import Path

import psutil
import pytest

from common.worker.memory import available_bytes

MIB = 1 << 20


def group(folder: Path, limit: str, used: int, cache: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(limit + "\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\n")
    return folder


def own(folder: Path, text: str) -> Path:
    file = folder / "own"
    file.write_text(text)
    return file


def test_a_containers_limit_counts_and_its_page_cache_is_given_back(tmp_path: Path) -> None:
    group(tmp_path / "cg", str(64 * MIB), used=40 * MIB, cache=10 * MIB)
    assert available_bytes(cgroups=tmp_path / "cg", own=own(tmp_path, "0::/\n")) == 34 * MIB


def test_the_tightest_of_the_groups_above_counts(tmp_path: Path) -> None:
    group(tmp_path / "cg/pods", str(32 * MIB), used=30 * MIB)
    group(tmp_path / "cg/pods/one", str(64 * MIB), used=1 * MIB)
    assert available_bytes(cgroups=tmp_path / "cg", own=own(tmp_path, "0::/pods/one\n")) == 2 * MIB


def test_the_older_hierarchy_is_read_too(tmp_path: Path) -> None:
    folder = tmp_path / "cg/memory/pod"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{16 * MIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{20 * MIB}\n")
    (folder / "memory.stat").write_text("total_inactive_file 0\n")
    assert available_bytes(cgroups=tmp_path / "cg", own=own(tmp_path, "5:cpu:/x\n4:memory:/pod\n")) == 0


@pytest.mark.parametrize("limit", ["max", "nonsense"])
def test_without_a_limit_the_hosts_memory_counts(tmp_path: Path, limit: str) -> None:
    group(tmp_path / "cg", limit, used=1)
    known = psutil.virtual_memory().available
    told = available_bytes(cgroups=tmp_path / "cg", own=own(tmp_path, "0::/\n"))
    assert abs(told - known) < known / 4


def test_where_there_are_no_groups_the_hosts_memory_counts(tmp_path: Path) -> None:
    assert available_bytes(cgroups=tmp_path / "none", own=tmp_path / "none") > MIB
