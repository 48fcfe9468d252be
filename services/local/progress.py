"""What the processes of a local cluster announce, a line each."""

from contextlib import suppress

from rich.console import Console
from rich.table import Table

from common.core.clock import Clock
from common.observe.announce import Announcement, Phase

STYLES = {Phase.READY: "green", Phase.FAILED: "red", Phase.LOADING: "dim", Phase.DRAINING: "dim"}


class Progress:
    """Prints; long details continue below themselves."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._began = clock.monotonic()

    def __call__(self, said: Announcement) -> None:
        line = Table.grid(padding=(0, 1, 0, 0))
        for width in (8, 9, 8):
            line.add_column(width=width, no_wrap=True)
        line.add_column()
        seconds = f"{self._clock.monotonic() - self._began:6.1f} s"
        line.add_row(seconds, said.name, f"[{STYLES[said.phase]}]{said.phase}[/]", _detail(said))
        with suppress(OSError):  # the disk behind it is full: the cluster serves
            self._console.print(line, highlight=False)


def _detail(said: Announcement) -> str:
    if said.phase is not Phase.READY:
        return said.detail.replace("[", r"\[")
    return f"{said.address}  http://{said.metrics}/metrics" if said.metrics else said.address
