"""Every kernel compiles for every architecture, without spills and within a block's shared memory."""

import os
import subprocess
import sys

import pytest

from kernels.gpu.aot import Report, faults, specimens
from kernels.gpu.compile_only import SHARED_BYTES
from tests.architecture.source import ROOT


@pytest.mark.timeout(600)
@pytest.mark.parametrize("architecture", sorted(SHARED_BYTES))
def test_every_kernel_compiles_without_a_gpu(architecture: int) -> None:
    """In a process of its own: the interpreter replaces kernels by what cannot be compiled."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "kernels.gpu.aot", "--arch", str(architecture)]
    made = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=590)
    assert made.returncode == 0, made.stdout + made.stderr


def test_spills_and_too_much_shared_memory_are_faults() -> None:
    specimen = next(specimens(80))
    report = Report(
        name=specimen.name, architecture=80, registers=255, shared_bytes=200_000, spilled_bytes=8, code_bytes=1
    )
    assert len(faults(specimen, report)) == 2
