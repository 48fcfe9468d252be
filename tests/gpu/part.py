"""What every part of the measurements is told on its command line, and how it says what it found."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
import triton

NO_GPU = 2
"""Exit code of a part that wants a GPU where there is none."""


def part_parser(purpose: str | None) -> argparse.ArgumentParser:
    """`--miniature`: small shapes on the CPU, checks alone. `--out`: a file for what is printed as well."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--out", type=Path)
    return parser


def part_device(*, is_small: bool) -> torch.device | None:
    """Where to run; None, and said so, without a GPU."""
    if is_small:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    sys.stderr.write("no GPU here, so nothing was run\n")
    return None


def conditions(device: torch.device) -> dict[str, object]:
    """What a time means nothing without."""
    versions = f"torch {torch.__version__}, triton {triton.__version__}, CUDA {torch.version.cuda}"
    return {"device": torch.cuda.get_device_name(device), "versions": versions}


def keep(found: Mapping[str, object], out: Path | None) -> None:
    """What there is so far, whole at any moment: a part may be cut off at its deadline."""
    if out is not None:
        half = out.with_suffix(".half")
        half.write_text(json.dumps(found, indent=1) + "\n")
        half.replace(out)


def tell(found: Mapping[str, object], out: Path | None) -> None:
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    keep(found, out)
