"""How much memory this process may still take: the host's, or what its container is allowed."""

from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")

_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def available_bytes(*, cgroups: Path = CGROUPS, own: Path = OWN) -> int:
    """The least of what the host has available and what every control group above this process leaves. Page cache that
    the kernel would give back counts as available, there as here."""
    host = psutil.virtual_memory().available
    return min([host, *(left for folder in _folders(cgroups, own) if (left := _left(folder)) is not None)])


def _folders(cgroups: Path, own: Path) -> list[Path]:
    """Groups that may limit this process, the innermost first: in a container its own group is the root."""
    try:
        lines = own.read_text(encoding="ascii").splitlines()
    except OSError:
        return [cgroups]
    found: list[Path] = []
    for line in lines:
        _number, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root = cgroups / controllers
        inner = root / path.lstrip("/")
        found += [folder for folder in (inner, *inner.parents) if folder == root or root in folder.parents]
    return found


def _left(folder: Path) -> int | None:
    """What one group leaves; None where it sets no limit, or there is no such group."""
    for limit_name, used_name, cache_name in (_V2, _V1):
        try:
            limit = (folder / limit_name).read_text(encoding="ascii").strip()
            if limit == "max":
                return None
            used = int((folder / used_name).read_text(encoding="ascii"))
            return max(0, int(limit) - used + _cache_bytes(folder / "memory.stat", cache_name))
        except (OSError, ValueError):
            continue
    return None


def _cache_bytes(stat: Path, name: str) -> int:
    for line in stat.read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
