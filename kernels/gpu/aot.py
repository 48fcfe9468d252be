"""Compile every kernel for every architecture, on a machine without a GPU.

    python -m kernels.gpu.aot [--arch 90]... [--only attention] [--whole]

Prints registers, shared memory and spilled bytes as the assembler that comes with triton reports them, and ends with 1
when a kernel does not compile, spills, or wants more shared memory than a block may have. Not in the interpreter:
TRITON_INTERPRET must be unset.
"""

import argparse
import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.gpu.compile_only import SHARED_BYTES
from kernels.gpu.specimen import Specimen

OPERATORS = (
    "activation",
    "attention_merge",
    "attention_specimens",
    "cut",
    "draw",
    "exact_linear",
    "expert_linear",
    "norm",
    "page_digest",
    "page_move",
    "rotary_store",
    "score",
    "shape_logits",
)
"""Modules of this room with SPECIMENS, or with `specimens(architecture, is_whole=...)` where sizes are tuned."""

ALIGNMENT = [["tt.divisibility", 16]]

BLOCK_BYTES = {**SHARED_BYTES, 80: 101_376}
"""Shared memory that a kernel may want. What is compiled for sm_80 also serves sm_86, 89 and 120 (tuned.CLASSES), whose
blocks have 99 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the assembler says of one kernel. `registers` are of one thread."""

    name: str
    architecture: int
    registers: int
    shared_bytes: int
    spilled_bytes: int
    code_bytes: int


def specimens(architecture: int, only: str = "", *, is_whole: bool = False) -> Iterator[Specimen]:
    """Those with `only` in their module's or their own name; `is_whole`: every shape, and all of the tuned table."""
    for operator in OPERATORS:
        module = import_module(f"kernels.gpu.{operator}")
        if not hasattr(module, "SPECIMENS"):
            own = module.specimens(architecture, is_whole=is_whole)
        else:
            own = module.SPECIMENS if is_whole else tuple(turns(module.SPECIMENS, architecture))
        yield from (specimen for specimen in own if only in operator or only in specimen.name)


def turns(own: Sequence[Specimen], architecture: int) -> Iterator[Specimen]:
    """Shapes of each kernel take turns: each is compiled for one architecture at least, and a kernel for every one."""
    place, num = sorted(SHARED_BYTES).index(architecture), len(SHARED_BYTES)
    shapes: dict[str, list[Specimen]] = {}
    for specimen in own:
        shapes.setdefault(specimen.kernel.__name__, []).append(specimen)
    for each in shapes.values():
        yield from each[place::num] or [each[place % len(each)]]


def build(specimen: Specimen, architecture: int) -> Report:
    """Compile one kernel. Raises triton's CompilationError, or PTXASError from the assembler."""
    names = specimen.kernel.arg_names
    source = ASTSource(
        specimen.kernel,
        signature={name: specimen.types.get(name, "constexpr") for name in names},
        constexprs=dict(specimen.constants),
        attrs={
            (place,): ALIGNMENT
            for place, name in enumerate(names)
            if specimen.types.get(name, "").startswith("*") or name in specimen.divisible
        },
    )
    options = {
        "num_warps": specimen.num_warps,
        "num_stages": specimen.num_stages,
        "enable_fp_fusion": specimen.has_fused_products,
    }
    log = io.StringIO()
    with triton.knobs.nvidia.scope(), triton.knobs.compilation.scope(), redirect_stdout(log):
        triton.knobs.nvidia.dump_ptxas_log = True
        triton.knobs.compilation.always_compile = True
        made = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    said = log.getvalue()
    spilled = sum(int(count) for count in re.findall(r"(\d+) bytes spill", said))
    registers = re.search(r"Used (\d+) registers", said)
    assert registers is not None, f"no report from the assembler: {said}"
    return Report(
        name=specimen.name,
        architecture=architecture,
        registers=int(registers[1]),
        shared_bytes=made.metadata.shared,
        spilled_bytes=spilled,
        code_bytes=len(made.asm["cubin"]),
    )


def faults(specimen: Specimen, report: Report) -> list[str]:
    """Why this kernel may not be served; nothing when it may."""
    found = []
    if report.spilled_bytes > specimen.max_spilled_bytes:
        found.append(f"spills {report.spilled_bytes} bytes, {specimen.max_spilled_bytes} are allowed")
    if report.shared_bytes > BLOCK_BYTES[report.architecture]:
        found.append(f"wants {report.shared_bytes} bytes of shared memory of {BLOCK_BYTES[report.architecture]}")
    return found


def line(report: Report) -> str:
    """A report as it is printed."""
    return (
        f"sm_{report.architecture:<3}  {report.name:66}  {report.registers:3} registers  "
        f"{report.shared_bytes:6} B shared  {report.spilled_bytes:4} B spilled"
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kernels.gpu.aot", description="Compile every GPU kernel.")
    parser.add_argument(
        "--arch", type=int, action="append", choices=sorted(SHARED_BYTES), help="80, 90, 100; repeatable"
    )
    parser.add_argument("--only", default="", help="part of an operator's or a kernel's name")
    parser.add_argument("--whole", action="store_true", help="every shape, everything in the tuned table: minutes")
    given = parser.parse_args(arguments)
    failed = 0
    sys.stdout.write(f"triton {triton.__version__}\n")
    for architecture in given.arch or sorted(SHARED_BYTES):
        for specimen in specimens(architecture, given.only, is_whole=given.whole):
            report = build(specimen, architecture)
            wrong = faults(specimen, report)
            failed += bool(wrong)
            sys.stdout.write(f"{line(report)}  {'; '.join(wrong) or 'ok'}\n")
            sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
