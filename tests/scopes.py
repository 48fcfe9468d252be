"""Which tests run in one process where several do, and in which order: they share what is slow to make.

xdist has marks for this (`xdist_group`), which pytest 9.2 does not hand on: without this, groups fall apart silently.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

TOGETHER = ("tests/kube/", "tests/oracle/test_oracle.py", "tests/oracle/test_families.py", "tests/architecture/")
"""One control plane; answers of the other implementation, once for each file; all sources, parsed once."""

LONGEST = (
    "tests/kube/",
    "tests/oracle/test_cluster_oracle.py",
    "tests/cluster/test_sampling.py",
    "tests/cluster/test_same_answer.py",
    "tests/local/test_commands.py",
    "tests/cluster/test_kill.py",
    "tests/cluster/test_constrained.py",
    "tests/cluster/test_tls.py",
    "tests/deploy/test_live.py",
    "tests/cluster/test_cancel.py",
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

    def _reschedule(self, node: WorkerController) -> None:
        """A file is handed out when one test is left of the one before, which waits for it: earlier, it would wait
        itself while the other process has nothing."""
        if not (self._by_file and self.workqueue and self._pending_of(self.assigned_work[node]) > 1):
            super()._reschedule(node)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """What is done is forgotten: it would be looked through again after every test."""
        super().mark_test_complete(node, item_index, duration)
        scopes = self.assigned_work[node]
        scope = self._split_scope(self.registered_collections[node][item_index])
        if all(scopes[scope].values()):
            del scopes[scope]
