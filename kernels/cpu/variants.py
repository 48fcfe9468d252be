"""The instruction sets that native operators are compiled for, and which of them this processor has."""

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")

AVX2 = frozenset({"avx2", "fma", "f16c"})
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
AVX512_BF16 = AVX512 | {"avx512_bf16"}
AMX = AVX512_BF16 | {"amx_tile", "amx_bf16"}
"""Names as Linux spells them. clang and gcc are given flags, never a processor's name: both know all of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to compile: `needs` are processor flags it runs with, `flags` what the compiler gets."""

    name: str
    needs: frozenset[str]
    flags: tuple[str, ...]

    @property
    def is_portable(self) -> bool:
        return not self.needs


def _variant(name: str, needs: frozenset[str], *extra: str) -> Variant:
    names = {"avx512_bf16": "avx512bf16", "amx_tile": "amx-tile", "amx_bf16": "amx-bf16"}
    flags = tuple(sorted(f"-m{names.get(need, need)}" for need in needs))
    return Variant(name=name, needs=needs, flags=(*flags, *extra))


VARIANTS = (
    _variant("amx", AMX, "-mprefer-vector-width=512"),
    _variant("avx512_bf16", AVX512_BF16, "-mprefer-vector-width=512"),
    _variant("avx512", AVX512, "-mprefer-vector-width=512"),
    _variant("avx2", AVX2),
    _variant("generic", frozenset()),
)
"""Best first. The last one runs everywhere, on ARM too."""

EMULATED_TILES = _variant("emulated_tiles", frozenset(), "-DBATON_EMULATE_TILES")
"""The logic of amx, its instructions written out in C++: for tests on machines without them."""


def variants_of_machine() -> tuple[Variant, ...]:
    """What a compiler on this machine can make: all of them on x86-64, the portable one elsewhere."""
    is_x86 = platform.machine().lower() in {"x86_64", "amd64"}
    return tuple(variant for variant in VARIANTS if is_x86 or variant.is_portable)


def usable_variants(flags: frozenset[str] | None = None) -> tuple[Variant, ...]:
    """What a processor with these flags can run, best first. None: this processor."""
    own = cpu_flags() if flags is None else flags
    return tuple(variant for variant in variants_of_machine() if variant.needs <= own)


@cache
def cpu_flags() -> frozenset[str]:
    """The first processor's flags; empty where Linux does not list them, which leaves the portable variant."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return frozenset()
    found = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(found, ()))
