"""The native operators of this process: loaded once, for the best instruction set that processor and compiler share."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from kernels.cpu.build import MAX_COMPILE_S, CompileFailed, build, find_compiler, find_library
from kernels.cpu.variants import Variant, usable_variants

ABI = 1
"""Raised when a C signature changes its meaning; native/pool.cpp says the same number."""

REFUSALS = {1: "the kernel does not grant its registers", 2: "its products come out wrong on this processor"}
"""What baton_start says besides 0."""

KINDS: dict[str, Any] = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "f": ctypes.c_float}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Native:
    """A loaded library. Its functions return 0 for done, and give up the interpreter's lock while they run."""

    variant: str
    path: Path
    handle: ctypes.CDLL = field(repr=False)

    def bind(self, name: str, kinds: str) -> Callable[..., int]:
        """A function by name. `kinds` has a letter per argument: p address (or None), i integer, f float."""
        function = self.handle[name]
        function.argtypes = [KINDS[kind] for kind in kinds]
        function.restype = ctypes.c_int64
        return function


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What loading came to: the library or None, and a sentence for the operator either way."""

    native: Native | None
    reason: str


@cache
def load() -> Loaded:
    """The best library that can be had: found, or compiled now (once per machine: `outlook`)."""
    refusals: list[str] = []
    for variant in usable_variants():
        loaded = load_variant(variant)
        if loaded.native is not None:
            skipped = f" (not {'; '.join(refusals)})" if refusals else ""
            return Loaded(native=loaded.native, reason=loaded.reason + skipped)
        refusals.append(loaded.reason)
    return Loaded(native=None, reason=f"no native operators: {'; '.join(refusals)[:1000]}")


def outlook() -> str | None:
    """What whoever calls `load` now will wait for, in words; None: for nothing that takes long."""
    if load.cache_info().currsize:
        return None
    best = usable_variants()[0]
    compiler = find_compiler()
    if compiler is None or find_library(best) is not None:
        return None
    name = Path(compiler.path).name
    return (
        f"compiling native operators for {best.name} with {name}, once on this machine: half a minute of a free core, "
        f"{MAX_COMPILE_S / 60:.0f} minutes at most"
    )


def loaded_native() -> Native | None:
    """What `load` found, once this process has asked for it: for callers that may not wait for a compiler."""
    return load().native if load.cache_info().currsize else None


@cache
def load_variant(variant: Variant) -> Loaded:
    """One variant, whatever the processor says: for tests that compare them, and for `load`."""
    try:
        path = build(variant)
        native = Native(variant=variant.name, path=path, handle=ctypes.CDLL(str(path)))
        if native.bind("baton_abi", "")() != ABI:
            return Loaded(native=None, reason=f"{variant.name}: {path.name} has another interface")
        refusal = REFUSALS.get(native.bind("baton_start", "")())
        if refusal is not None:
            return Loaded(native=None, reason=f"{variant.name}: {refusal}")
    except (CompileFailed, OSError, AttributeError) as error:
        return Loaded(native=None, reason=f"{variant.name}: {error}")
    return Loaded(native=native, reason=f"native operators for {variant.name}")
