"""`python -m kernels.bench`, from a bare checkout."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from kernels.bench.report import heading, line, write
from kernels.bench.run import CASES, ceilings_of, conditions_of, figures


def main(arguments: Sequence[str]) -> int:
    """0 when every case passed its check, 1 when one did not, 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m kernels.bench", description="Measure operators on this GPU.")
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--miniature", action="store_true", help="check small cases in the interpreter, time nothing")
    parser.add_argument("--when", default="", help="the date, as it is kept with the figures")
    given = parser.parse_args(arguments)
    if given.miniature:
        return _check_small(given.only)
    if not torch.cuda.is_available():
        sys.stderr.write("no GPU here, so nothing was measured\n")
        return 2
    device = torch.device("cuda", torch.cuda.current_device())
    with torch.inference_mode():
        conditions = conditions_of(device, given.repeats, given.when)
        ceilings = ceilings_of(device, given.repeats)
        sys.stdout.write(heading(conditions, ceilings) + "\n")
        found = []
        for figure in figures(given.only, device, ceilings, given.repeats):
            found.append(figure)
            sys.stdout.write(line(figure) + "\n")
            sys.stdout.flush()
            if given.out is not None:
                write(given.out, conditions, ceilings, found)
    return 0 if all(figure.timing is not None for figure in found) else 1


def _check_small(only: str) -> int:
    """0 when every case passes its check. With TRITON_INTERPRET=1, which must be set before triton is imported."""
    failed = 0
    with torch.inference_mode():
        for planned in CASES:
            if only in planned.name:
                case = planned.make(torch.device("cpu"), is_small=True)
                is_right = case.error() <= case.tolerance
                failed += not is_right
                sys.stdout.write(f"{case.name:52} {'right' if is_right else 'WRONG'}, not timed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
