"""Compiled kernels that came with the checkout: Triton's cache, read from wherever the checkout lies.

    TRITON_CACHE_MANAGER=kernels.gpu.warm_cache:WarmCache

Triton keys a kernel by its source, constants, types and alignments of arguments, compiler, assembler and architecture,
and by no path; but its own cache lists the files of a kernel by absolute paths, so that a folder which was moved holds
nothing. Here a kernel's files are looked for beside their list. What FOLDER does not hold is compiled as ever and kept
where Triton keeps it; FOLDER itself is only read. common/engine/warm_kernels fills it.
"""

import json
from pathlib import Path
from typing import cast

from triton.runtime.cache import FileCacheManager

FOLDER = Path(__file__).resolve().parents[2] / "build" / "triton"


class WarmCache(FileCacheManager):  # type: ignore[misc]  # triton has no types
    """The files of one key."""

    def __init__(self, key: str, override: bool = False, dump: bool = False) -> None:
        warm = FOLDER / key
        if override or dump or not is_complete(warm):
            super().__init__(key, override, dump)
            return
        self.key = key
        self.cache_dir = str(warm)
        self.lock_path = None

    def get_group(self, filename: str) -> dict[str, str] | None:
        """Paths of the files that belong together, by name; None where they were never put."""
        found = self.get_file(f"__grp__{filename}")
        if found is None:
            return None
        listed = cast(dict[str, dict[str, str]], json.loads(Path(found).read_text()))["child_paths"]
        here = {name: Path(found).with_name(name) for name in listed}
        return {name: str(path) for name, path in here.items() if path.exists()}


def is_complete(folder: Path) -> bool:
    """Whether somebody who was not interrupted put a kernel, or a compiled module, there: lists are written last."""
    return any(folder.glob("__grp__*")) or any(folder.glob("*.so"))
