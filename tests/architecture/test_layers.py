"""Rooms import only what the house allows them to."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath

from tests.architecture.rules import MAY_IMPORT
from tests.architecture.source import ROOT, TOP_LEVEL, Source, module_of, report, sources

OWN = (*TOP_LEVEL, "models", "tests", "benchmarks", "scripts")


def is_within(name: str, room: str) -> bool:
    """Whether the dotted name is the room or something in it."""
    return f"{name}.".startswith(f"{room}.")


def room_of(path: PurePosixPath) -> str | None:
    """The most narrowly named room of the table that holds the file."""
    module = module_of(path)
    return max((room for room in MAY_IMPORT if is_within(module, room)), key=len, default=None)


def layer_violations(source: Source) -> list[str]:
    """Imports of this repository's own rooms that the table does not grant."""
    room = room_of(source.path)
    if room is None:
        return [f"{source.path}: in no room of the table"]
    found = []
    for imported in source.imports():
        is_own = imported.name.split(".")[0] in OWN
        if is_own and not any(is_within(imported.name, granted) for granted in MAY_IMPORT[room]):
            found.append(f"{source.at(imported.line)}: {room} imports {imported.name}")
    return found


def import_graph() -> dict[str, set[str]]:
    """Module -> modules that it knows of, by the files that exist: at the top, within functions, or for types alone."""
    by_name = {module_of(source.path): source for source in sources(*TOP_LEVEL)}
    graph = {}
    for name, source in by_name.items():
        needed = set()
        for imported in source.imports():
            # The member's own module where it is one, otherwise the module it comes from.
            needed |= {imported.name} & by_name.keys() or {imported.name.rpartition(".")[0]} & by_name.keys()
        graph[name] = needed - {name}
    return graph


def parsed(path: str, text: str) -> Source:
    return Source(path=PurePosixPath(path), tree=ast.parse(text))


def test_rooms_import_only_rooms_below_them():
    violations = [line for source in sources(*TOP_LEVEL, "models") for line in layer_violations(source)]
    assert not violations, report(violations, "layering (tests/architecture/rules.py)")


def test_no_modules_know_each_other_in_a_circle():
    try:
        TopologicalSorter(import_graph()).prepare()
    except CycleError as error:
        raise AssertionError(f"an import circle: {' -> '.join(error.args[1])}") from error


def test_every_room_has_a_plaque():
    packages = {source.path.parent for source in sources(*TOP_LEVEL)}
    missing = []
    for package in sorted(packages):
        plaque = ROOT / package / "__init__.py"
        if not plaque.exists() or not ast.get_docstring(ast.parse(plaque.read_text())):
            missing.append(f"{package}/__init__.py has no docstring that says what lives there")
    assert not missing, report(missing, "a room is a folder with a plaque")


def test_no_file_is_called_utils_or_helpers():
    homeless = {"utils", "util", "helpers", "helper", "misc", "manager", "common_utils"}
    found = [str(source.path) for source in sources(*TOP_LEVEL, "models", "tests") if source.path.stem in homeless]
    assert not found, report(found, "a file bears the name of the noun that lives in it")


def test_a_service_that_imports_another_is_caught():
    assert layer_violations(parsed("services/router/spy.py", "from services.decode import core"))


def test_a_lower_room_that_imports_a_higher_one_is_caught():
    assert layer_violations(parsed("common/kv/spy.py", "import common.engine.batch"))


def test_a_relative_import_cannot_hide():
    assert layer_violations(parsed("common/kv/spy.py", "from ..engine import batch"))


def test_an_import_for_typing_alone_obeys_the_layers_too():
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from common.transfer import link\n"
    assert layer_violations(parsed("common/engine/spy.py", text))


def test_an_import_within_a_function_is_seen():
    assert layer_violations(parsed("common/core/spy.py", "def late():\n    import common.observe\n"))
