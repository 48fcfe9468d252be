"""Before a process serves: signals, and what libraries write. Imports nothing heavy: a process imports it first.

    started -> EARLY: a signal ends it at once, exit 0 -> farewell.py listens: a signal drains it

Importing, loading a model and looking for others take seconds to minutes, and nothing is promised to anybody meanwhile.
The kernel would end the process as well, with a status that reads like a crash; and the first process of a container,
which has no default for signals, would not hear of them at all and be killed when its grace is over.
"""

import os
import signal
from types import FrameType

from common.config.environment import set_defaults

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""How orchestrators, people and terminals that close ask a process to leave."""


def leave_while_early() -> None:
    """Until somebody else listens to the signals. For the main thread."""
    for number in heard():
        signal.signal(number, _leave)


def heard() -> tuple[signal.Signals, ...]:
    """What nohup started outlives its terminal. SIGINT counts also where a script put us into the background."""
    outlives = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return tuple(number for number in SIGNALS if not (outlives and number is signal.SIGHUP))


def hush_libraries() -> None:
    """gRPC's own lines are no JSON, and what it tells of below an error (peers that close, pings) we tell ourselves. It
    asks once, when it is imported."""
    set_defaults({"GRPC_VERBOSITY": "ERROR"})


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Threads that load are not waited for: what they made is in nobody's hands."""
    os._exit(0)
