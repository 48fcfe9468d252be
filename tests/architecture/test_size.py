"""Functions fit a screen, files hold one noun."""

import ast
from statistics import median

from tests.architecture.source import ROOT, TOP_LEVEL, report, sources

MAX_FUNCTION_LINES = 70
MAX_CONSTRUCTOR_LINES = 90
"""A composition root builds its parts one after another: long, and flat."""

MAX_FILE_LINES = 450
"""A hard stop, far above the usual: half of the files have about a hundred lines."""

MAX_MEDIAN_LINES = 130


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of what the function does: its signature and docstring, one line per parameter, are read once."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1 if body else 0


def test_functions_fit_a_screen():
    found = []
    for source in sources(*TOP_LEVEL, "models"):
        for function in source.functions():
            lines = body_lines(function)
            if lines > (MAX_CONSTRUCTOR_LINES if function.name == "__init__" else MAX_FUNCTION_LINES):
                found.append(f"{source.at(function.lineno)}: {function.name} has {lines} lines")
    assert not found, report(found, f"a function has at most {MAX_FUNCTION_LINES} lines")


def test_files_are_short():
    lines = {str(source.path): len((ROOT / source.path).read_text().splitlines()) for source in sources(*TOP_LEVEL)}
    long = [f"{path}: {count} lines" for path, count in lines.items() if count > MAX_FILE_LINES]
    assert not long, report(long, f"a file has at most {MAX_FILE_LINES} lines")
    assert median(count for count in lines.values() if count) <= MAX_MEDIAN_LINES
