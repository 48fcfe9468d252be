"""One measured run and the conditions of all of them: what a line of a results file says."""

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from common.core.clock import Clock
from services.local.bench.workload import Figures
from services.local.topology import ROOT

MAX_FOREIGN = 0.08
"""Above this share of the machine a sample is repeated: other load was seen to cost servers 20 to 75 %."""

PACKAGES = ("torch", "numpy", "grpcio", "tokenizers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Without these no figure is worth keeping: machine, versions, model, command, date."""

    command: str
    date: str
    commit: str
    """Of this checkout; a plus behind it: with changes. Empty where it is none."""

    machine: str
    cores: int
    memory_gib: float
    versions: Mapping[str, str]
    model: str
    settings: tuple[str, ...] = ()
    contenders: Mapping[str, str] = field(default_factory=dict)
    """Name -> how it was run: command line, threads, pins."""

    ceilings: Mapping[str, float] = field(default_factory=dict)
    """What the machine reached in this run: shares of bounds are of these. Empty: there are none."""

    def as_json(self) -> dict[str, object]:
        return {"kind": "conditions", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run of one workload against one contender. `error`: it failed, and there are no figures."""

    contender: str
    workload: str
    parameters: Mapping[str, object]
    round: int
    attempt: int
    foreign: float
    steal: float
    own: float
    figures: Figures
    error: str = ""

    @property
    def is_clean(self) -> bool:
        return not self.error and self.foreign + self.steal <= MAX_FOREIGN

    def as_json(self) -> dict[str, object]:
        figures = {name: float(f"{value:.6g}") for name, value in self.figures.items()}
        return {"kind": "sample", **asdict(self), "figures": figures, "is_clean": self.is_clean}


def describe_conditions(
    command: str,
    model: Path,
    clock: Clock,
    *,
    settings: tuple[str, ...] = (),
    contenders: Mapping[str, str],
    ceilings: Mapping[str, float] | None = None,
) -> Conditions:
    """Of this machine, now. A folder is told by its name: where it lies is nobody's business."""
    return Conditions(
        command=command,
        date=datetime.fromtimestamp(clock.wall(), UTC).isoformat(timespec="minutes"),
        commit=_commit(),
        machine=_processor(),
        cores=os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        versions={"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        model=model.name,
        settings=settings,
        contenders=contenders,
        ceilings=ceilings or {},
    )


def _processor() -> str:
    """Its name and what it multiplies with."""
    name, flags = platform.machine(), set[str]()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() == "flags":
                flags = set(value.split())
                break
    except OSError:
        return name
    wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")
    return f"{name} ({' '.join(flag for flag in wanted if flag in flags)})"


def _commit() -> str:
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--exclude=*", "--dirty=+"],  # noqa: S607  # whichever git is there
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except OSError:
        return ""
    return said.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
