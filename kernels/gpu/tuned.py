"""How large tiles are on which device: tuned.json, made offline by a command (`python -m kernels.bench.tune`).

Nothing is tried while serving: a size that is not in the table is an error, and bits do not depend on a measurement.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kernels.gpu.launch import INTERPRETER, Device

TABLE = Path(__file__).with_name("tuned.json")
CLASSES = (80, 90, 100)
"""Architectures with a table. Others are served by that of 80, whose tiles fit 99 KiB of shared memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """Of attention: queries and keys of a tile, keys of a span, and what the compiler and the grid are told.

    `programs` per multiprocessor: of a persistent grid.
    """

    queries: int
    keys: int
    span: int
    num_warps: int
    num_stages: int
    programs: int = 1


SMALL = Tiles(queries=32, keys=32, span=64, num_warps=4, num_stages=2)
"""In the interpreter: short contexts meet every branch."""


def device_class(device: Device) -> int:
    """Whose table serves this device."""
    return device.architecture if device.architecture in CLASSES else min(CLASSES)


def tiles(operator: str, device: Device, padded_dim: int, element_bytes: int) -> Tiles:
    """Of `operator` for heads of up to `padded_dim` channels in pages of `element_bytes`. Raises KeyError."""
    if device is INTERPRETER:
        return SMALL
    return tiles_of(device_class(device), operator, padded_dim, element_bytes)


@cache
def tiles_of(architecture: int, operator: str, padded_dim: int, element_bytes: int) -> Tiles:
    """The same for one of CLASSES."""
    return Tiles(**_table()[str(architecture)][operator][f"{padded_dim}x{element_bytes}"])


@cache
def _table() -> Mapping[str, Mapping[str, Mapping[str, Mapping[str, int]]]]:
    table: Mapping[str, Mapping[str, Mapping[str, Mapping[str, int]]]] = json.loads(TABLE.read_text())
    return table
