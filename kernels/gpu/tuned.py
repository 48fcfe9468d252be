"""How large tiles are on which device: tuned.json, made offline by a command (`python -m kernels.bench.tune`).

Nothing is tried while serving: a size that is not in the table is an error, and bits do not depend on a measurement.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from kernels.gpu.launch import INTERPRETER, Device

TABLE = Path(__file__).with_name("tuned.json")
Table = Mapping[str, Mapping[str, Mapping[str, Mapping[str, int]]]]
"""Architecture, operator, shape, sizes."""

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


class Chooser(Protocol):
    """`tiles` below, or what stands in for it while sizes are tried."""

    def __call__(self, operator: str, device: Device, padded_dim: int, element_bytes: int, /) -> Tiles: ...


def element_bytes_of(q_THD: Tensor, kv_PL2KSE: Tensor) -> int:
    """What tiles depend on beside a head's channels: bytes of a stored number, but 4 beside queries in fp32, whatever
    the pages hold: tiles made for narrower ones would not fit in registers."""
    return 4 if q_THD.dtype is torch.float32 else kv_PL2KSE.element_size()


def device_class(device: Device) -> int:
    """Whose table serves this device."""
    return device.architecture if device.architecture in CLASSES else min(CLASSES)


def tiles(operator: str, device: Device, padded_dim: int, element_bytes: int) -> Tiles:
    """Of `operator` for heads of up to `padded_dim` channels and `element_bytes_of` tensors. Raises KeyError."""
    if device is INTERPRETER:
        return SMALL
    return tiles_of(device_class(device), operator, padded_dim, element_bytes)


@cache
def tiles_of(architecture: int, operator: str, padded_dim: int, element_bytes: int) -> Tiles:
    """The same for one of CLASSES."""
    return Tiles(**_table()[str(architecture)][operator][f"{padded_dim}x{element_bytes}"])


@cache
def _table() -> Table:
    table: Table = json.loads(TABLE.read_text())
    return table


def rewrite(architecture: int, operator: str, padded_dim: int, element_bytes: int, own: Tiles) -> None:
    """Put tiles into the file, a line per shape. For the command that tunes; who serves has read the table already."""
    table: dict[str, dict[str, dict[str, object]]] = json.loads(TABLE.read_text())
    table[str(architecture)][operator][f"{padded_dim}x{element_bytes}"] = asdict(own)
    TABLE.write_text(laid_out(table))


def laid_out(table: Mapping[str, Mapping[str, Mapping[str, object]]]) -> str:
    """The file's text."""
    classes = []
    for architecture, operators in table.items():
        blocks = []
        for operator, shapes in operators.items():
            lines = ",\n".join(f"   {json.dumps(shape)}: {json.dumps(own)}" for shape, own in shapes.items())
            blocks.append(f'  "{operator}": {{\n{lines}\n  }}')
        classes.append(f' "{architecture}": {{\n' + ",\n".join(blocks) + "\n }")
    return "{\n" + ",\n".join(classes) + "\n}\n"
