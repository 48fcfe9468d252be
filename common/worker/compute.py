"""Which operators a worker computes with, and on which cores. Imported only where torch is wanted."""

import os
import re
from collections.abc import Collection
from pathlib import Path

from common.config.sections.engine import EngineSection
from common.core.errors import StartupError
from common.observe.logging import get_log
from common.worker.capacity import Report
from kernels import dispatch

CPUS = re.compile(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*")
THREADS = Path("/proc/self/task")

_LOG = get_log("worker")


def choose_kernels(engine: EngineSection, report: Report) -> None:
    """Once per process, before the model is read: weights are laid out for the operators that will read them.

    May compile them, once per machine, and says so before. Raises StartupError.
    """
    if engine.cpus:
        stay_on(parse_cpus(engine.cpus))
    wanted = dispatch.Kernels(engine.kernels)
    if (outlook := dispatch.outlook(wanted)) is not None:
        report(outlook)
    try:
        found = dispatch.choose(wanted, is_exact=engine.exact == "always")
    except dispatch.NoNativeOperators as error:
        raise StartupError(message=f"engine.kernels is native: {error}") from error
    report(found)
    _LOG.info("kernels_chosen", kernels=found, is_native=dispatch.native() is not None, cpus=engine.cpus or "any")


def check_exact(engine: EngineSection, dtype: str, *, is_on_gpu: bool = False) -> None:
    """Refuse a device or a type where rows would depend on their batch, where none may. Raises StartupError."""
    if engine.exact == "always" and is_on_gpu and not dispatch.has_triton():
        raise StartupError(
            message="engine.exact is always, but without triton a GPU's matrix products depend on how many rows they "
            "have: install triton, or set engine.device=cpu or engine.exact=auto"
        )
    if is_on_gpu:
        return
    if engine.exact == "always" and dtype != "float32" and dispatch.native() is None:
        raise StartupError(
            message=f"engine.exact is always, but torch's operators are exact in float32 only, not in {dtype}: "
            "set model.dtype=float32, or install a C++ compiler for native operators (baton doctor says more)"
        )


def parse_cpus(text: str) -> frozenset[int]:
    """`0,2-4` as {0, 2, 3, 4}. Raises StartupError for another form."""
    if not CPUS.fullmatch(text):
        raise StartupError(message=f"engine.cpus: {text!r:.80} is not a list of cores such as 0,2 or 0-3")
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def stay_on(cpus: Collection[int]) -> None:
    """Keep every thread of this process, and those to come, on these cores. Raises StartupError."""
    for thread in THREADS.iterdir():
        try:
            os.sched_setaffinity(int(thread.name), cpus)
        except ProcessLookupError:
            continue  # it ended since it was listed
        except OSError as error:
            allowed = sorted(os.sched_getaffinity(0))
            raise StartupError(message=f"engine.cpus names {sorted(cpus)}; this process may use {allowed}") from error
