"""What this process costs the machine: memory, cores, build. The door to psutil."""

import platform
from contextlib import suppress

import psutil

from common.observe import catalogue
from common.observe.descriptors import num_descriptors
from common.observe.logging import num_lost_lines
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics


class ProcessGauges:
    """Looks at the process when asked. Writer: whoever renders the metrics."""

    def __init__(self, metrics: Metrics, version: str) -> None:
        self._metrics = metrics
        self._process = psutil.Process()
        self._process.cpu_percent(None)  # the first look starts the interval
        self._num_lost_lines = 0
        metrics.set(catalogue.BUILD_INFO, 1, version=version, python=platform.python_version())

    def refresh(self) -> None:
        """As of now. What cannot be looked at stays as it was: to look takes an open file, and there may be none."""
        num_lost = num_lost_lines()
        self._metrics.add(catalogue.LOG_LINES_LOST, max(0, num_lost - self._num_lost_lines))
        self._num_lost_lines = num_lost
        self._metrics.set(catalogue.PROCESS_MAX_FILES, num_descriptors())
        with suppress(psutil.Error, OSError):
            self._look()

    def _look(self) -> None:
        """On a CPU worker the process is the device."""
        memory = self._process.memory_info().rss
        cores = self._process.cpu_percent(None) / 100
        self._metrics.set(catalogue.PROCESS_FILES, self._process.num_fds())
        self._metrics.set(catalogue.PROCESS_MEMORY_BYTES, memory)
        self._metrics.set(catalogue.PROCESS_CPU, cores)
        if self._metrics.role in (ProcessRole.PREFILL, ProcessRole.DECODE):
            self._metrics.set(catalogue.DEVICE_MEMORY_BYTES, memory, device="cpu")
            self._metrics.set(catalogue.DEVICE_UTILISATION, min(1.0, cores / (psutil.cpu_count() or 1)), device="cpu")
