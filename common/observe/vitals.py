"""What every process shows of itself, whatever it serves: its cost, its certificates, how late its loop is."""

from types import TracebackType
from typing import Self

from common.config.sections.cluster import ClusterSection
from common.core.clock import Clock
from common.core.version import VERSION
from common.observe.certificates import CertificateGauges
from common.observe.lag import LoopLag
from common.observe.process import ProcessGauges
from common.observe.registry import Metrics


class Vitals:
    """A context manager: inside its block, on the event loop, lateness is noticed. Writer: whoever renders the metrics,
    on whatever thread."""

    def __init__(self, metrics: Metrics, cluster: ClusterSection, clock: Clock) -> None:
        self.lag = LoopLag(metrics)
        self._process = ProcessGauges(metrics, VERSION)
        self._certificates = CertificateGauges(metrics, cluster, clock)

    def __enter__(self) -> Self:
        self.lag.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lag.__exit__(kind, error, trace)

    def refresh(self) -> None:
        """Before a scrape."""
        self._process.refresh()
        self._certificates.refresh()
        self.lag.refresh()
