"""Every kernel compiles for every architecture, without spills and within a block's shared memory."""

import os
import subprocess
import sys
from dataclasses import astuple, replace
from importlib import import_module
from itertools import combinations, product

import pytest

from kernels.gpu.aot import OPERATORS, Report, faults, specimens, turns
from kernels.gpu.attention_specimens import DIMS, Kernel, Masks, Pages, Vectors, shapes
from kernels.gpu.compile_only import SHARED_BYTES
from tests.architecture.source import ROOT

USUAL = 90
"""Compiled in every run of the tests; the others take a minute each, and `make soak`."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "architecture",
    [pytest.param(each, marks=() if each == USUAL else pytest.mark.slow) for each in sorted(SHARED_BYTES)],
)
def test_every_kernel_compiles_without_a_gpu(architecture: int) -> None:
    """In a process of its own: the interpreter replaces kernels by what cannot be compiled. In one for all: what every
    process begins with takes as long as twenty kernels."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "kernels.gpu.aot", "--arch", str(architecture)]
    made = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=590)
    assert made.returncode == 0, made.stdout + made.stderr
    wanted = sum(1 for _ in specimens(architecture))
    assert sum(line.startswith("sm_") and line.endswith("  ok") for line in made.stdout.splitlines()) == wanted


def test_every_shape_is_compiled_somewhere_and_every_kernel_for_every_architecture() -> None:
    for operator in OPERATORS:
        own = getattr(import_module(f"kernels.gpu.{operator}"), "SPECIMENS", ())
        by_class = {architecture: tuple(turns(own, architecture)) for architecture in SHARED_BYTES}
        assert {each.name for turn in by_class.values() for each in turn} == {each.name for each in own}
        for turn in by_class.values():
            assert {each.kernel.__name__ for each in turn} == {each.kernel.__name__ for each in own}
            assert len({each.name for each in turn}) == len(turn)


def test_every_pair_of_a_kernel_a_dim_a_type_pages_an_architecture_and_masks_is_compiled() -> None:
    rows = [(*astuple(shape), architecture) for architecture in SHARED_BYTES for shape in shapes(architecture)]
    levels = (tuple(Kernel), DIMS, tuple(Vectors), tuple(Pages), tuple(Masks), tuple(SHARED_BYTES))
    for (first, own), (second, other) in combinations(enumerate(levels), 2):
        assert {(row[first], row[second]) for row in rows} == set(product(own, other))
    usual = {(row[0], row[-1]) for row in rows if row[1:5] == (128, Vectors.BF16, Pages.SAME, Masks.PLAIN)}
    assert usual >= set(product((Kernel.DECODE, Kernel.EXTEND), SHARED_BYTES))


def test_spills_and_too_much_shared_memory_are_faults() -> None:
    specimen = next(specimens(80))
    report = Report(
        name=specimen.name, architecture=80, registers=255, shared_bytes=200_000, spilled_bytes=8, code_bytes=1
    )
    assert len(faults(specimen, report)) == 2
    # What sm_86, 89 and 120 have, which are served by the same tiles.
    assert len(faults(specimen, replace(report, spilled_bytes=0, shared_bytes=101_377))) == 1
    assert faults(specimen, replace(report, spilled_bytes=0, shared_bytes=101_376)) == []
