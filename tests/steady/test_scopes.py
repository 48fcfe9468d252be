"""Goal: a process never keeps a file waiting that another could begin. Method: xdist's scheduler, and processes that
only note what they are given."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from xdist.remote import Producer
from xdist.workermanage import WorkerController

from tests.scopes import Scopes

FILES = {"a": 3, "b": 2, "c": 1}
TESTS = [f"tests/x/test_{file}.py::test_{number}" for file, count in FILES.items() for number in range(count)]


@dataclass(eq=False)
class Process:
    gateway: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(id="gw"))
    shutting_down: bool = False
    given: list[int] = field(default_factory=list)

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    def next_of(self, done: list[int]) -> list[int]:
        """It begins a test when it knows what follows, or that nothing does."""
        left = [index for index in self.given if index not in done]
        return left[:1] if self.shutting_down or len(left) > 1 else []


def begun(dist: str) -> tuple[Scopes, Process, Process]:
    """Two processes that have collected, and the first work of each."""
    values = {"dist": dist, "tx": ["2*popen"]}
    config: Any = SimpleNamespace(getvalue=values.__getitem__, option=SimpleNamespace(loadscopereorder=False))
    made, processes = Scopes(config, Producer("scopes", enabled=False)), (Process(), Process())
    for process in processes:
        made.add_node(node(process))
        made.add_node_collection(node(process), TESTS)
    made.schedule()
    return made, *processes


def node(process: Process) -> WorkerController:
    return cast(WorkerController, process)


def test_a_file_is_begun_by_whoever_comes_to_its_end_first() -> None:
    """The last test of a process waits for what comes next: it may hold one, but not two."""
    made, first, second = begun("loadfile")
    assert (first.given, second.given) == ([0, 1, 2], [3, 4])
    made.mark_test_complete(node(first), 0)
    assert first.given == [0, 1, 2], "it has two left"
    made.mark_test_complete(node(second), 3)
    assert second.given == [3, 4, 5]


@pytest.mark.parametrize("dist", ["loadfile", "loadgroup"])
def test_everything_is_given_out_once_and_what_is_done_is_forgotten(dist: str) -> None:
    made, *processes = begun(dist)
    done: list[int] = []
    while waiting := [(process, index) for process in processes for index in process.next_of(done)]:
        process, index = waiting[0]
        made.mark_test_complete(node(process), index)
        done.append(index)
        scopes = made.assigned_work[node(process)]
        assert all(False in tests.values() for tests in scopes.values())
    assert sorted(done) == list(range(len(TESTS)))
    assert sorted(index for process in processes for index in process.given) == sorted(done)
    assert made.tests_finished
    assert all(process.shutting_down for process in processes)
