"""Two parts of a GPU's multiprocessors that have none in common, each with a stream whose kernels run there alone.

NOT RUN YET on a GPU. Both are cut from one split of the device's resource: what the driver gives to the first part, and
what it says remains. (torch.cuda.green_contexts asks the driver for a first part each time, so that two of them may be
the same multiprocessors.) The driver rounds the first part up to whole groups; `num_processors` is what it gave. Which
multiprocessors really ran something is asked of the kernels themselves, recorded ones too: `processors_seen`.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LIBRARY = "libcuda.so.1"
RESOURCE_BYTES = 144
COUNT_AT = 96
"""CUdevResource, from CUDA 12.4 on: an opaque struct; the count of multiprocessors follows its padding."""
MULTIPROCESSORS = 1
DEFAULT_STREAM, NON_BLOCKING = 1, 1
PROGRAMS_PER_PROCESSOR = 8
ROUNDS = 20_000
"""Of a program that looks where it is: long enough that the next one goes elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """`stream` is a CUstream of it. Never given back: the process ends soon."""

    num_processors: int
    stream: int


def split(driver: Any, ordinal: int, num_first: int) -> tuple[Partition, Partition]:
    """At least `num_first` multiprocessors, and all others. Raises RuntimeError with the driver's number."""
    device = ctypes.c_int()
    whole, first, rest = (ctypes.create_string_buffer(RESOURCE_BYTES) for _ in range(3))
    groups = ctypes.c_uint(1)
    _check(driver.cuDeviceGet(ctypes.byref(device), ordinal), "cuDeviceGet")
    _check(driver.cuDeviceGetDevResource(device, whole, MULTIPROCESSORS), "cuDeviceGetDevResource")
    _check(
        driver.cuDevSmResourceSplitByCount(
            first, ctypes.byref(groups), whole, rest, ctypes.c_uint(0), ctypes.c_uint(num_first)
        ),
        "cuDevSmResourceSplitByCount",
    )
    parts = _partition(driver, device, first), _partition(driver, device, rest)
    if sum(part.num_processors for part in parts) > _count(whole):
        raise RuntimeError(f"parts of {[part.num_processors for part in parts]} of {_count(whole)} multiprocessors")
    return parts


def loaded_driver() -> Any:
    """Raises OSError without one."""
    return ctypes.CDLL(LIBRARY)


def _partition(driver: Any, device: ctypes.c_int, resource: Any) -> Partition:
    described, context, stream = (ctypes.c_void_p() for _ in range(3))
    _check(driver.cuDevResourceGenerateDesc(ctypes.byref(described), resource, ctypes.c_uint(1)), "GenerateDesc")
    _check(
        driver.cuGreenCtxCreate(ctypes.byref(context), described, device, ctypes.c_uint(DEFAULT_STREAM)),
        "cuGreenCtxCreate",
    )
    _check(
        driver.cuGreenCtxStreamCreate(ctypes.byref(stream), context, ctypes.c_uint(NON_BLOCKING), ctypes.c_int(0)),
        "cuGreenCtxStreamCreate",
    )
    assert stream.value is not None
    return Partition(num_processors=_count(resource), stream=stream.value)


def _count(resource: Any) -> int:
    return int.from_bytes(resource.raw[COUNT_AT : COUNT_AT + 4], "little")


def _check(status: int, call: str) -> None:
    if status != 0:
        raise RuntimeError(f"{call}: the driver says {status}")


@triton.jit
def where_kernel(processors_N, spun_N, rounds):
    """Program n writes the number of the multiprocessor that it runs on, having spun there for a while."""
    program = tl.program_id(0)
    spun = program.to(tl.float32)
    for _ in range(rounds):
        spun = spun * 0.5 + 1.0
    tl.store(spun_N + program, spun)
    own = tl.inline_asm_elementwise("mov.u32 $0, %smid;", "=r,r", [program], tl.int32, is_pure=False, pack=1)
    tl.store(processors_N + program, own)


def processors_seen(
    device: torch.device, num_processors: int, record: Callable[..., Callable[[], Tensor]] | None = None
) -> set[int]:
    """Numbers of the multiprocessors that kernels of the current stream run on; with `record`, recorded ones."""
    num_programs = num_processors * PROGRAMS_PER_PROCESSOR
    processors_N = torch.full((num_programs,), -1, dtype=torch.int32, device=device)
    spun_N = torch.zeros(num_programs, device=device)

    def look() -> Tensor:
        where_kernel[(num_programs,)](processors_N, spun_N, ROUNDS, num_warps=1)
        return processors_N

    look()
    if record is not None:
        replay = record(look)
        processors_N.fill_(-1)
        replay()
    torch.cuda.current_stream(device).synchronize()
    return set(processors_N.tolist())


def must_be_apart(seen: tuple[set[int], set[int]], parts: tuple[Partition, Partition]) -> None:
    """Raises RuntimeError where kernels of both parts ran on one multiprocessor, or on more than a part has."""
    if common := seen[0] & seen[1]:
        raise RuntimeError(f"both parts ran on multiprocessors {sorted(common)}")
    for own, part in zip(seen, parts, strict=True):
        if len(own) > part.num_processors or not own:
            raise RuntimeError(f"kernels ran on {len(own)} multiprocessors of a part of {part.num_processors}")
