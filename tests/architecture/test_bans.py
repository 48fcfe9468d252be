"""No path of this repository turns bytes into code (S1), in what ships and in its tools."""

import ast
from pathlib import PurePosixPath

from tests.architecture.rules import BANNED_CALLS, BANNED_METHODS, BANNED_MODULES
from tests.architecture.source import TOP_LEVEL, Source, dotted, report, sources


def ban_violations(source: Source) -> list[str]:
    """Imports and mentions of what S1 bans."""
    found = []
    for imported in source.imports():
        parts = imported.name.split(".")
        prefixes = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
        banned = sorted(prefixes & (BANNED_MODULES | BANNED_CALLS))
        found += [f"{source.at(imported.line)}: imports {name}" for name in banned]
        if parts[-1] in BANNED_METHODS:
            found.append(f"{source.at(imported.line)}: imports {parts[-1]}")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and (node.attr in BANNED_METHODS or dotted(node) in BANNED_CALLS):
            found.append(f"{source.at(node.lineno)}: {dotted(node) or node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BANNED_CALLS:
            found.append(f"{source.at(node.lineno)}: {node.func.id}()")
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found.append(f"{source.at(node.value.lineno)}: allow_pickle")
    return found


def parsed(text: str) -> Source:
    return Source(path=PurePosixPath("common/kv/spy.py"), tree=ast.parse(text))


def test_nothing_that_can_run_bytes_as_code_is_used():
    folders = (*TOP_LEVEL, "models", "scripts", "deploy", "benchmarks")
    violations = [line for source in sources(*folders) for line in ban_violations(source)]
    assert not violations, report(violations, "S1: no pickle and friends, no eval, no object collectives")


def test_the_usual_ways_in_are_caught():
    ways = [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('weights.pt')",
        "from torch import load",
        "import numpy as np\nnp.load('a.npy')",
        "eval('1')",
        "import torch.distributed as dist\ndist.all_gather_object([], 1)",
        "import torch.distributed.rpc",
        "reader(allow_pickle=True)",
        "from yaml import load",
    ]
    missed = [way for way in ways if not ban_violations(parsed(way))]
    assert not missed


def test_a_method_that_shares_a_name_with_a_banned_builtin_is_fine():
    assert not ban_violations(parsed("model.eval()\npattern.compile()"))
