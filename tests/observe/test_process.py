"""What a process tells of itself, also when it hardly can."""

import errno
import os

import psutil
import pytest

from common.observe import catalogue
from common.observe.metric import ProcessRole
from common.observe.process import ProcessGauges
from common.observe.registry import Metrics


def test_open_files_are_told_beside_how_many_may_be() -> None:
    metrics = Metrics(ProcessRole.ROUTER)
    gauges = ProcessGauges(metrics, "0.1.0")
    gauges.refresh()
    before = metrics.value(catalogue.PROCESS_FILES)
    extra = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    gauges.refresh()
    assert metrics.value(catalogue.PROCESS_FILES) == before + 5
    assert metrics.value(catalogue.PROCESS_MAX_FILES) > before + 5
    for file in extra:
        os.close(file)


def test_where_no_file_can_be_opened_the_rest_is_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of memory and processor come from files, too."""
    metrics = Metrics(ProcessRole.ROUTER)
    gauges = ProcessGauges(metrics, "0.1.0")

    def refuse(_process: psutil.Process) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(psutil.Process, "memory_info", refuse)
    gauges.refresh()
    assert b"baton_process_max_files" in metrics.render()
