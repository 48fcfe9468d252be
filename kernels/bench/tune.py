"""`python -m kernels.bench.tune`: find the tiles of attention on this GPU and write them into kernels/gpu/tuned.json.

One size is changed at a time and the fastest kept, until a whole round changes nothing. Tiles that give wrong results,
or that the device refuses, are passed over. The exact pair is not tuned: its two kernels must share tiles of keys, or
bits differ. Commit the file with the figures of `python -m kernels.bench` before and after.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace

import torch
from triton.runtime.errors import OutOfResources, PTXASError

from kernels.bench.attention_cases import Scene, Shape, decode
from kernels.bench.stopwatch import measure
from kernels.gpu.launch import Device, device_of
from kernels.gpu.tuned import Tiles, device_class, rewrite, tiles

SIZES = {
    "attention_decode": {
        "keys": (32, 64, 128),
        "num_warps": (2, 4, 8),
        "num_stages": (3, 5, 7),
        "programs": (1, 2, 3, 4, 6),
    },
    "attention_extend": {"queries": (64, 128), "keys": (32, 64, 128), "num_warps": (4, 8), "num_stages": (2, 3, 5, 7)},
}
"""A span is not among them: it is the length that decode's order of sums is promised for."""

DIMS = (64, 128, 256)
TOLERANCE = 1e-2
REPEATS = 15
MAX_ROUNDS = 3
GAIN = 0.99
"""Less than a hundredth is noise."""


def shape_of(operator: str, dim: int, kv_dtype: torch.dtype | None) -> Shape:
    """What tiles are judged by: 64 contexts of 4k, or a prompt of 8k."""
    shape = decode([4096] * 64) if operator == "attention_decode" else Shape(rows=((0, 8192),))
    return replace(shape, dim=dim, kv_dtype=kv_dtype)


def seconds(scene: Scene, own: Tiles, device: torch.device) -> float | None:
    """Of one run; None where these tiles are wrong or cannot be had."""

    def choose(_operator: str, _device: Device, _dim: int, _bytes: int) -> Tiles:
        return own

    try:
        if not scene.error(choose) <= TOLERANCE:
            return None
        return measure(lambda turn: scene.attend(turn, choose), device, REPEATS).seconds
    except (OutOfResources, PTXASError):
        return None


def fastest(operator: str, scene: Scene, start: Tiles, device: torch.device) -> tuple[Tiles, float]:
    """From `start` on, one size at a time. Raises RuntimeError when the table's own tiles do not work."""
    best, best_s = start, seconds(scene, start, device)
    if best_s is None:
        raise RuntimeError(f"{operator}: the table's tiles are wrong or refused here: {start}")
    for _ in range(MAX_ROUNDS):
        before = best
        for name, sizes in SIZES[operator].items():
            for size in sizes:
                tried = Tiles(**{**asdict(best), name: size})
                took_s = None if tried == best else seconds(scene, tried, device)
                if took_s is not None and took_s < GAIN * best_s:
                    best, best_s = tried, took_s
        if best == before:
            break
    return best, best_s


def main(arguments: Sequence[str]) -> int:
    """2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m kernels.bench.tune", description="Tune attention for this GPU.")
    parser.add_argument("--only", default="", help="part of an operator's name")
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        sys.stderr.write("no GPU here, so nothing was tuned\n")
        return 2
    device = torch.device("cuda", torch.cuda.current_device())
    facts = device_of(device)
    with torch.inference_mode():
        for operator in (name for name in SIZES if given.only in name):
            for dim in DIMS:
                for kv_dtype in (None, torch.int8):
                    scene = Scene(shape_of(operator, dim, kv_dtype), device)
                    element_bytes = scene.kv_PL2KSD.element_size()
                    best, best_s = fastest(operator, scene, tiles(operator, facts, dim, element_bytes), device)
                    rewrite(device_class(facts), operator, dim, element_bytes, best)
                    sys.stdout.write(f"{operator} {dim}x{element_bytes}: {best_s * 1e6:.1f} us  {asdict(best)}\n")
                    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
