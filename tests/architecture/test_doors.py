"""Each outside library is imported through its one door; clock, randomness and environment too."""

import ast
import sys
from fnmatch import fnmatch
from pathlib import PurePosixPath

from tests.architecture.rules import DOORS
from tests.architecture.source import TOP_LEVEL, Source, report, sources

OWN = {*TOP_LEVEL, "models", "tests"} - {"protos"}
PLAIN_LIBRARY = sys.stdlib_module_names - {name.split(".")[0] for name in DOORS if "." not in name}


def ruling_door(name: str) -> str | None:
    """The longest entry of the table that this dotted name falls under; None when none does."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in DOORS), None)


def is_open(path: PurePosixPath, door: str) -> bool:
    """Whether the file may use what is behind the door."""

    def fits(pattern: str) -> bool:
        if pattern.startswith("*"):
            return fnmatch(path.name, pattern)
        return fnmatch(str(path), pattern) if "*" in pattern else str(path).startswith(pattern)

    return any(fits(pattern) for pattern in DOORS[door])


def door_violations(source: Source) -> list[str]:
    """Imports past a door, and libraries that have none."""
    found = []
    for imported in source.imports():
        top = imported.name.split(".")[0]
        door = ruling_door(imported.name)
        if door is None:
            if top not in OWN and top not in PLAIN_LIBRARY:
                found.append(f"{source.at(imported.line)}: {top} has no door")
        elif not is_open(source.path, door):
            found.append(f"{source.at(imported.line)}: {imported.name} passes by the door of {door}")
    for chain, line in source.attribute_chains():
        if chain in DOORS and chain.startswith("os.") and not is_open(source.path, chain):
            found.append(f"{source.at(line)}: {chain} passes by its door")
    return found


def parsed(path: str, text: str) -> Source:
    return Source(path=PurePosixPath(path), tree=ast.parse(text))


def test_libraries_are_imported_through_their_doors():
    violations = [line for source in sources(*TOP_LEVEL, "models") for line in door_violations(source)]
    assert not violations, report(violations, "one door per outside library (tests/architecture/rules.py)")


def test_a_clock_outside_its_door_is_caught():
    assert door_violations(parsed("services/router/spy.py", "from time import monotonic"))


def test_the_environment_outside_its_door_is_caught():
    assert door_violations(parsed("common/kv/spy.py", "import os\nhome = os.environ['HOME']"))


def test_collectives_are_behind_a_narrower_door_than_tensors():
    assert not door_violations(parsed("common/model/fine.py", "import torch"))
    assert door_violations(parsed("common/model/spy.py", "import torch.distributed as dist"))
    assert door_violations(parsed("common/model/spy.py", "from torch import distributed"))


def test_a_library_without_a_door_is_caught():
    assert door_violations(parsed("common/kv/spy.py", "import requests"))
