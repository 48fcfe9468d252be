"""Which tests run in one process where several do, and in which order: they share what is slow to make.

xdist has marks for this (`xdist_group`), which pytest 9.2 does not hand on: without this, groups fall apart silently.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

TOGETHER = ("tests/kube/", "tests/oracle/test_oracle.py", "tests/oracle/test_families.py", "tests/architecture/")
"""One control plane; answers of the other implementation, once for each file; all sources, parsed once."""

LONGEST = (
    "tests/kube/",
    "tests/oracle/test_cluster_oracle.py",
    "tests/local/test_commands.py",
    "tests/cluster/test_drain_rolling.py",
    "tests/cluster/test_kill.py",
    "tests/cluster/test_constrained.py",
    "tests/deploy/test_live.py",
    "tests/cluster/test_same_answer.py",
    "tests/cluster/test_cancel.py",
    "tests/cluster/test_sampling.py",
    "tests/local/test_endings.py",
)
"""Measured: half a minute and more, with real processes. They begin first, so that none of them is the last alone."""


def scope_of(nodeid: str, *, by_file: bool) -> str:
    """Tests of one scope run in one process, one after the other."""
    shared = next((beginning for beginning in TOGETHER if nodeid.startswith(beginning)), "")
    return shared or (nodeid.partition("::")[0] if by_file else nodeid)


def place_of(nodeid: str) -> int:
    """Lower ones first."""
    return next((place for place, beginning in enumerate(LONGEST) if nodeid.startswith(beginning)), len(LONGEST))


class Scopes(LoadScopeScheduling):
    """Hands scopes to processes that have nothing to do: files by `--dist loadfile`, else single tests."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        self._by_file = config.getvalue("dist") == "loadfile"

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid, by_file=self._by_file)
