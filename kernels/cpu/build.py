"""Compile the native operators into one shared library per instruction set. The one door to the compiler.

    python -m kernels.cpu.build          what this processor runs best
    python -m kernels.cpu.build --all    every variant this kind of machine can have: for images
    python -m kernels.cpu.build --tests  every variant that tests load on this processor

A library's name holds a digest of sources and flags, and one of the compiler: a stale one is never loaded, and where
there is no compiler a library made elsewhere from the same sources is taken. Libraries lie in build/native of a
checkout that can be written to, in the user's cache otherwise.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kernels.cpu.seal import is_whole, seal
from kernels.cpu.variants import EMULATED_TILES, Variant, usable_variants, variants_of_machine

SOURCES = Path(__file__).parent / "native"
CHECKOUT = Path(__file__).resolve().parents[2]
USER_CACHE = Path("~/.cache/baton/native")
COMPILERS = ("g++", "clang++", "c++")
MAX_COMPILE_S = 300.0
"""Measured: 31 s for avx512, 39 s for avx512_bf16, on a core of 2.5 GHz in a slow hour; others may take most of it."""
FLAGS = (
    *("-std=c++20", "-O3", "-fPIC", "-pthread", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"),
    # The compiler may not decide, template by template, which products and sums become one rounding: rows would differ.
    "-ffp-contract=off",
    # What is said on failure should be the error alone.
    "-w",
)


class CompileFailed(Exception):
    """No library could be made: no compiler, a compiler's refusal, its time limit, or nowhere to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """A compiler and what it says about itself."""

    path: str
    version: str

    @property
    def digest(self) -> str:
        return hashlib.blake2b(self.version.encode(), digest_size=4).hexdigest()


@cache
def find_compiler() -> Compiler | None:
    """The first of COMPILERS on the path that answers."""
    for name in COMPILERS:
        path = shutil.which(name)
        if path is None:
            continue
        try:
            said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        return Compiler(path=path, version=said.stdout.splitlines()[0] if said.stdout else name)
    return None


def source_digest(variant: Variant) -> str:
    """Of every source and header, by name and content, and of all flags."""
    digest = hashlib.blake2b(" ".join((*FLAGS, *variant.flags)).encode(), digest_size=8)
    for path in sorted((*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h"))):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def library_folders() -> tuple[Path, ...]:
    """Where libraries may lie, the preferred one first."""
    own = (CHECKOUT / "build" / "native",) if (CHECKOUT / "pyproject.toml").exists() else ()
    try:
        return (*own, USER_CACHE.expanduser())
    except RuntimeError:  # a user without a home, as containers like to have
        return own


def find_library(variant: Variant) -> Path | None:
    """A whole library of these very sources. With a compiler here, one that it made; without, whoever made it."""
    compiler = find_compiler()
    pattern = f"{variant.name}-{source_digest(variant)}-{compiler.digest if compiler else '*'}.so"
    found = (path for folder in library_folders() for path in sorted(folder.glob(pattern)))
    return next(filter(is_whole, found), None)


def build(variant: Variant) -> Path:
    """The variant's library, compiled if it is not there yet; a second process waits for the first one's.

    Raises CompileFailed.
    """
    found = find_library(variant)
    if found is not None:
        return found
    compiler = find_compiler()
    if compiler is None:
        raise CompileFailed(f"none of {', '.join(COMPILERS)} is on the path")
    folder = _writable_folder()
    try:
        with _locked(folder):
            return find_library(variant) or _compile(compiler, variant, folder)
    except OSError as error:  # a lock that is somebody else's, a disk that is full
        raise CompileFailed(f"{folder}: {error}") from error


def _compile(compiler: Compiler, variant: Variant, folder: Path) -> Path:
    """The library appears whole or not at all."""
    target = folder / f"{variant.name}-{source_digest(variant)}-{compiler.digest}.so"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / target.name
        run_compiler([compiler.path, *FLAGS, *variant.flags, "-shared", "-o", str(made), *_source_paths()])
        written = seal(made)
        written.replace(target.with_name(written.name))  # first: a library beside another one's seal is none
        made.replace(target)
    return target


def _source_paths() -> list[str]:
    return [str(path) for path in sorted(SOURCES.glob("*.cpp"))]


def run_compiler(command: list[str]) -> None:
    """Raises CompileFailed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MAX_COMPILE_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise CompileFailed(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise CompileFailed(f"{command[0]} ends with {done.returncode}: {done.stderr.strip()[:2000]}")


def _writable_folder() -> Path:
    for folder in library_folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise CompileFailed(f"none of {', '.join(map(str, library_folders())) or 'no folders'} can be written to")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One compile at a time per folder. The kernel unlocks for a process that dies."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # bounded: the holder's compiler is killed after MAX_COMPILE_S
        yield


def _wanted(*, is_all: bool, is_tests: bool) -> tuple[Variant, ...]:
    if is_all:
        return variants_of_machine()
    return (*usable_variants(), EMULATED_TILES) if is_tests else usable_variants()


def main() -> int:
    """The command line: 0 when at least one library is there."""
    parser = argparse.ArgumentParser(
        prog="python -m kernels.cpu.build", description="Compile the native CPU operators."
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="every variant this kind of machine can have")
    which.add_argument("--tests", action="store_true", help="every variant that tests load on this processor")
    given = parser.parse_args()
    num_made = 0
    for variant in _wanted(is_all=given.all, is_tests=given.tests):
        try:
            sys.stdout.write(f"{variant.name}: {build(variant)}\n")
        except CompileFailed as error:
            sys.stdout.write(f"{variant.name}: not compiled, the torch path is taken instead: {error}\n")
            continue
        num_made += 1
        if not (given.all or given.tests):
            break
    return 0 if num_made else 1


if __name__ == "__main__":
    sys.exit(main())
