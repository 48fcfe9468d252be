"""A worker on the second GPU asks nothing of the first, whatever thread it is on.

Method: a pretended torch.cuda that knows each thread's device, as CUDA does, and refuses calls for another one. The
order of streams is proven elsewhere (test_page_streams); what CUDA does with it was not run.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from common.kv import cuda_stream
from common.kv.cuda_stream import CudaStream, on_device, page_streams
from common.kv.span import DeviceSpan

SECOND = torch.device("cuda", 1)


class Driver:
    """Which device each thread is on, and what was asked on which."""

    def __init__(self) -> None:
        self.thread = threading.local()
        self.calls: list[tuple[str, int]] = []

    @property
    def current(self) -> int:
        return getattr(self.thread, "device", 0)

    def note(self, call: str) -> None:
        self.calls.append((call, self.current))

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.thread.device = self.current, device.index
        try:
            yield
        finally:
            self.thread.device = before

    @contextmanager
    def stream(self, _: object) -> Iterator[None]:
        self.note("stream")
        yield

    def make_stream(self, _: object) -> SimpleNamespace:
        return SimpleNamespace(wait_event=lambda _: self.note("wait_event"))

    def make_event(self, **_: object) -> SimpleNamespace:
        self.note("Event")
        return SimpleNamespace(record=lambda _: self.note("record"), synchronize=lambda: self.note("synchronize"))


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    cuda = SimpleNamespace(
        device=made.device,
        stream=made.stream,
        Stream=made.make_stream,
        Event=made.make_event,
        current_stream=made.make_stream,
    )
    monkeypatch.setattr(cuda_stream, "torch", SimpleNamespace(cuda=cuda, device=torch.device))
    return made


def test_every_move_is_asked_for_on_the_pages_own_device(driver: Driver) -> None:
    """From a thread that was told nothing, as those are that digest and land."""
    streams = page_streams(SECOND)
    span = DeviceSpan(address=4096, num_bytes=64, device=1)

    def move() -> None:
        work = lambda: driver.note("work")  # noqa: E731
        streams.settle(streams.end_step())
        streams.reach()
        streams.take(work)
        streams.put(work, work)
        streams.lift(work, span)
        streams.provide(work)
        streams.read(work, span)
        streams.lower(work)
        streams.begin_step()

    thread = threading.Thread(target=move)
    thread.start()
    thread.join(timeout=10)
    assert {call for call, _ in driver.calls} == {"stream", "Event", "record", "synchronize", "wait_event", "work"}
    assert {device for _, device in driver.calls} == {1}
    assert driver.current == 0


def test_a_thread_is_back_on_its_own_device_whatever_the_work_raises(driver: Driver) -> None:
    def fail() -> None:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        CudaStream(SECOND).run(fail)
    assert driver.current == 0
    with on_device(SECOND):
        assert driver.current == 1
