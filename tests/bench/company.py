"""Who else computed while something was measured: cores that processes other than ours and our children had busy."""

import psutil

from tests.cluster.house import CLOCK


class Company:
    """Counts from its making. Children that ended meanwhile count as others': ask before they are stopped."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = CLOCK.monotonic(), _busy_s(), _own_s()

    def cores(self) -> float:
        """Of others, in the mean since then. On a machine that does nothing else: a few hundredths."""
        others_s = _busy_s() - self._busy - (_own_s() - self._own)
        return max(0.0, others_s / (CLOCK.monotonic() - self._began))


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice)


def _own_s() -> float:
    me = psutil.Process()
    return sum(_spent_s(process) for process in (me, *me.children(recursive=True)))


def _spent_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
