"""One sample: run on a quiet machine, and again when somebody else was at it."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from common.core.clock import Clock
from common.core.errors import BatonError
from services.local.bench.cpu_watch import CpuWatch, wait_quiet
from services.local.bench.sample import MAX_FOREIGN, Sample
from services.local.bench.target import Target
from services.local.bench.workload import Figures, Kit, Workload

QUIET_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Runs workloads against one target. `heard` gets every sample, the spoiled ones too.

    `max_attempts` 1 waits for nobody and repeats nothing.
    """

    target: Target
    pids: Callable[[], Iterable[int]]
    kit: Kit
    clock: Clock
    heard: Callable[[Sample], None]
    max_attempts: int

    async def run(self, workload: Workload, *, number: int) -> None:
        """Until a sample is clean, at most `max_attempts` times. A target that fails is told, not raised."""
        for attempt in range(self.max_attempts):
            if self.max_attempts > 1:
                await wait_quiet(self.pids, self.clock, max_foreign=MAX_FOREIGN, timeout_s=QUIET_S)
            sample = await self._once(workload, number, attempt)
            self.heard(sample)
            if sample.is_clean:
                return

    async def _once(self, workload: Workload, number: int, attempt: int) -> Sample:
        watch = CpuWatch(self.pids, self.clock)
        figures: Figures = {}
        error = ""
        with watch:
            try:
                figures = await workload.run(self.target, self.kit)
            except* BatonError as failures:
                error = "; ".join(_messages(failures))
        assert watch.shares is not None
        return Sample(
            contender=self.target.name,
            workload=workload.name,
            parameters=asdict(workload),  # type: ignore[call-overload]  # every workload is a dataclass
            round=number,
            attempt=attempt,
            figures=figures,
            error=error[:300],
            **asdict(watch.shares),
        )


def _messages(failures: BaseExceptionGroup[BatonError]) -> list[str]:
    found = []
    for failure in failures.exceptions:
        found += [failure.message] if isinstance(failure, BatonError) else _messages(failure)
    return found
