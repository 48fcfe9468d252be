"""The repository's own Python files, parsed once, and the questions the rules ask of them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
TOP_LEVEL = ("protos", "kernels", "common", "services")
"""The four generic names that the distribution claims."""

GENERATED = ("_pb2.py", "_pb2_grpc.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One imported name: `from a.b import c` is `a.b.c`, so that a submodule and a member look alike."""

    name: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file: its path as the rules spell it, and its syntax tree."""

    path: PurePosixPath
    tree: ast.Module

    def at(self, line: int) -> str:
        """A clickable place for messages."""
        return f"{self.path}:{line}"

    def imports(self) -> Iterator[Import]:
        """Every import, at module level or inside functions; relative ones made absolute."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{self._module_of(node)}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                yield Import(name=name, line=node.lineno)

    def _module_of(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.path.parent.parts[: len(self.path.parent.parts) - node.level + 1]
        return ".".join([*package, *([node.module] if node.module else [])])

    def attribute_chains(self) -> Iterator[tuple[str, int]]:
        """Every dotted expression such as `torch.load` or `os.environ`, with its line."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute | ast.Name):
                chain = dotted(node)
                if chain:
                    yield chain, node.lineno

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function and method."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def dotted(node: ast.expr) -> str:
    """`a.b.c` for nested attributes of a plain name, an empty string for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """The hand-written files below the folders, in order of path; generated stubs are left out."""
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.name.endswith(GENERATED):
                relative = PurePosixPath(path.relative_to(ROOT))
                found.append(Source(path=relative, tree=ast.parse(path.read_text(), filename=str(relative))))
    return tuple(found)


def module_of(path: PurePosixPath) -> str:
    """The dotted name under which the file is imported."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def report(violations: list[str], rule: str) -> str:
    """One message that names the rule and every place that breaks it."""
    return "\n  ".join([f"{len(violations)} places break the rule: {rule}", *violations])
