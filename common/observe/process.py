"""What this process costs the machine: memory, cores, build. The door to psutil."""

import platform

import psutil

from common.observe import catalogue
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics


class ProcessGauges:
    """Looks at the process when asked. Writer: whoever renders the metrics."""

    def __init__(self, metrics: Metrics, version: str) -> None:
        self._metrics = metrics
        self._process = psutil.Process()
        self._process.cpu_percent(None)  # the first look starts the interval
        metrics.set(catalogue.BUILD_INFO, 1, version=version, python=platform.python_version())

    def refresh(self) -> None:
        """Memory and processor now. On a CPU worker the process is the device."""
        memory = self._process.memory_info().rss
        cores = self._process.cpu_percent(None) / 100
        self._metrics.set(catalogue.PROCESS_MEMORY_BYTES, memory)
        self._metrics.set(catalogue.PROCESS_CPU, cores)
        if self._metrics.role in (ProcessRole.PREFILL, ProcessRole.DECODE):
            self._metrics.set(catalogue.DEVICE_MEMORY_BYTES, memory, device="cpu")
            self._metrics.set(catalogue.DEVICE_UTILISATION, min(1.0, cores / (psutil.cpu_count() or 1)), device="cpu")
