"""Two parts of a GPU: cut from one split, refused where they share a multiprocessor."""

import ctypes
from typing import Any

import pytest

from tests.gpu.partitions import COUNT_AT, Partition, must_be_apart, split

PARTS = Partition(num_processors=3, stream=1), Partition(num_processors=5, stream=2)


class FakeDriver:
    """Eight multiprocessors in groups of `group`. Resources carry the numbers of theirs behind the count."""

    def __init__(self, group: int = 1) -> None:
        self._group = group
        self.contexts: list[bytes] = []

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device._obj.value = ordinal
        return 0

    def cuDeviceGetDevResource(self, _device: Any, whole: Any, _kind: int) -> int:
        self._write(whole, range(8))
        return 0

    def cuDevSmResourceSplitByCount(
        self, first: Any, groups: Any, whole: Any, rest: Any, _flags: Any, least: Any
    ) -> int:
        assert groups._obj.value == 1
        if least.value > 8:
            return 1
        own = list(whole.raw[COUNT_AT + 4 :][: whole.raw[COUNT_AT]])
        taken = -(-least.value // self._group) * self._group
        self._write(first, own[:taken])
        self._write(rest, own[taken:])
        return 0

    def cuDevResourceGenerateDesc(self, described: Any, resource: Any, _count: Any) -> int:
        self.contexts.append(resource.raw[COUNT_AT + 4 :][: resource.raw[COUNT_AT]])
        described._obj.value = len(self.contexts)
        return 0

    def cuGreenCtxCreate(self, context: Any, described: Any, _device: Any, _flags: Any) -> int:
        context._obj.value = described.value
        return 0

    def cuGreenCtxStreamCreate(self, stream: Any, context: Any, _flags: Any, _priority: Any) -> int:
        stream._obj.value = 100 + context.value
        return 0

    @staticmethod
    def _write(resource: Any, processors: Any) -> None:
        own = bytes(processors)
        ctypes.memmove(ctypes.byref(resource, COUNT_AT), len(own).to_bytes(4, "little") + own, 4 + len(own))


def test_parts_of_one_split_share_no_multiprocessor() -> None:
    driver = FakeDriver(group=2)
    first, rest = split(driver, 0, 3)
    assert (first.num_processors, rest.num_processors) == (4, 4)
    assert (first.stream, rest.stream) == (101, 102)
    assert not set(driver.contexts[0]) & set(driver.contexts[1])


def test_a_driver_that_refuses_is_quoted() -> None:
    with pytest.raises(RuntimeError, match="SplitByCount: the driver says 1"):
        split(FakeDriver(), 0, 9)


@pytest.mark.parametrize("seen", [({0, 1}, {1, 5}), ({0, 1, 2, 3}, {5}), (set(), {5})], ids=str)
def test_parts_that_are_not_what_they_should_be_are_refused(seen: tuple[set[int], set[int]]) -> None:
    with pytest.raises(RuntimeError, match="multiprocessors"):
        must_be_apart(seen, PARTS)


def test_parts_that_are_apart_pass() -> None:
    must_be_apart(({0, 1, 2}, {3, 7}), PARTS)
