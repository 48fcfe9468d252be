"""Triton without a GPU: kernels are compiled for an architecture and kept in its cache, and none is launched.

    with compile_only(90) as tally: ...        operators on CPU tensors, as the engine calls them

What an operator would have written stays as it was allocated: nobody may decide by it. Specialisations are those of a
GPU, because operators choose them, tiles of the tuned table among them. Not in the interpreter.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase

from kernels import dispatch
from kernels.cpu.build import find_compiler, run_compiler
from kernels.gpu.dialect import IS_INTERPRETED
from kernels.gpu.launch import Device, pretended

SHARED_BYTES = {80: 166_912, 90: 232_448, 100: 232_448}
"""What one block may have, per architecture: 163 and 227 KiB (CUDA programming guide, compute capabilities)."""

NUM_PROCESSORS = 132
"""An H100's. It sizes grids, which no kernel is compiled for."""


class Tally:
    """What was compiled, and what was found in the cache, by kernel. Writer: Triton's listener."""

    def __init__(self) -> None:
        self.compiled: list[str] = []
        self.found: list[str] = []

    def __call__(self, *, src: Any, cache_hit: bool, **_: object) -> None:
        (self.found if cache_hit else self.compiled).append(src.name)


class _NoDevice(DriverBase):  # type: ignore[misc]  # triton has no types
    """As much of a driver as a launch asks for. Devices are numbered by architecture: Triton keeps facts per device."""

    def __init__(self, architecture: int) -> None:
        super().__init__()
        self._architecture = architecture
        self.utils = SimpleNamespace(
            get_device_properties=lambda _device: {"max_shared_mem": SHARED_BYTES[architecture]},
            load_binary=lambda *_: (object(), 0, 0, 0, 1024),
        )

    @classmethod
    def is_active(cls) -> bool:
        return False

    def map_python_to_cpp_type(self, ty: str) -> str:
        raise AssertionError(f"{ty} of a launch that nobody makes")

    def get_active_torch_device(self) -> object:
        raise AssertionError("no device")

    def get_benchmarker(self) -> Callable[..., object]:
        raise AssertionError("nothing is tuned while it is compiled")

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self._architecture, 32)

    def get_current_device(self) -> int:
        return self._architecture

    def get_current_stream(self, _device: int) -> int:
        return 0

    def launcher_cls(self, _src: object, _metadata: object) -> Callable[..., None]:
        return lambda *_: None


@contextmanager
def compile_only(architecture: int) -> Iterator[Tally]:
    """Inside, operators on CPU tensors are the GPU's, and Triton compiles them for `architecture`."""
    assert not IS_INTERPRETED.value, "the interpreter compiles nothing: unset TRITON_INTERPRET"
    tally = Tally()
    device = Device(name=f"sm_{architecture}", architecture=architecture, num_processors=NUM_PROCESSORS)
    with triton.knobs.compilation.scope(), pretended(device), dispatch.interpreted():
        triton.knobs.compilation.listener = tally
        triton.knobs.compilation.store_binary_only = True
        triton.runtime.driver.set_active(_NoDevice(architecture))
        yield tally


def keep_in(folder: Path) -> None:
    """From now on Triton keeps what it compiles in `folder`, and reads it from there."""
    triton.knobs.cache.dir = str(folder.resolve())
    triton.knobs.cache.manager_class = None


def compile_launcher() -> bool:
    """Put the module that launches kernels into the cache, so that who reads it needs no C compiler. False without one.

    It is linked to the driver's library by name: an empty one of that name serves, and a start finds the real one.
    Raises CompileFailed.
    """
    compiler = find_compiler()
    if compiler is None:
        return False
    with TemporaryDirectory() as folder, triton.knobs.nvidia.scope():
        empty = Path(folder, "libcuda.so.1")
        run_compiler([compiler.path, "-shared", "-Wl,-soname,libcuda.so.1", "-o", str(empty), "-x", "c++", "/dev/null"])
        triton.knobs.nvidia.libcuda_path = folder
        from triton.backends.nvidia.driver import CudaUtils

        with suppress(ImportError):  # It lies in the cache by then, and cannot be loaded without a GPU's driver.
            CudaUtils()
    return True
