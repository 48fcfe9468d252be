"""What every part of the measurements is told on its command line, and how it says what it found."""

import argparse
import json
import sys
from pathlib import Path

import torch

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
    return {"device": torch.cuda.get_device_name(device), "torch": torch.__version__}


def tell(found: dict[str, object], out: Path | None) -> None:
    text = json.dumps(found, indent=1) + "\n"
    sys.stdout.write(text)
    if out is not None:
        out.write_text(text)
