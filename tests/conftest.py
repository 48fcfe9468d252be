"""What holds for every test: one thread per process, property tests without a stopwatch, GPU tests only with a GPU."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

from common.observe.garbage import calm_collector, hold_collector
from tests.scopes import LONGEST, Scopes, place_of
from tests.steady.interpreter import patch_once
from tests.steady.patient_loop import PatientPolicy
from tests.steady.virtual_time import pytest_pyfunc_call  # noqa: F401  # a hook is found by its name

# Before torch is imported anywhere: test processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before grpc is: its fork handlers wake its poller in a child that is about to become another program.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Before triton is: where there is no GPU, its kernels run in its interpreter.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A machine that stands still takes nothing from a test's deadlines.
asyncio.set_event_loop_policy(PatientPolicy())

# A shared machine may stall any single example, so time is no verdict. A failure prints the blob that repeats it.
settings.register_profile("baton", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("baton")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer | None) -> Scopes:
    return Scopes(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips `gpu` tests where there is no NVIDIA device: asking torch would cost seconds in every test process. Those
    with real processes are put in order."""
    if not Path("/dev/nvidiactl").exists():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
    items.sort(key=lambda item: place_of(item.nodeid) if item.get_closest_marker("calm") else len(LONGEST))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Nobody looks for garbage amid what is imported and collected, neither meanwhile nor later: it stays. Kernels to
    interpret are among it, if any."""
    hold_collector()
    try:
        return (yield)
    finally:
        calm_collector()
        patch_once()


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    """After every test: no child process and no thread that would keep this process alive. Clusters check more."""
    children, threads = _children(), _threads()
    yield
    assert _children() <= children, "a test left a child process behind"
    assert _threads() <= threads, "a test left a thread behind"


def _children() -> set[str]:
    """Process ids of this process's children; those that wait to be reaped count, they were forgotten too."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # there are none: to look at every thread would take a millisecond
        return set()
    found: set[str] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError):  # that thread has ended since it was listed
            found.update(file.read_text().split())
    return found


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.daemon and _is_ours(thread)}


def _is_ours(thread: threading.Thread) -> bool:
    """Pools of asyncio and of pytest live as long as the process."""
    return not thread.name.startswith(("asyncio_", "MainThread", "Dummy", "pytest"))
