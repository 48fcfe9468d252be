"""Every wait has a deadline, or says on its line what bounds it.

A wait is a call that can block or suspend until another party acts. It counts as bounded when it is given a timeout,
stands inside `asyncio.timeout(...)`, `asyncio.wait_for(...)` or `wait_done(...)`, or carries a comment `# bounded: why`
on its line or the one above, or where the function's docstring says what bounds it. Words are for waits that end with
their task and for those whose bound lies elsewhere.
"""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import PurePosixPath

from tests.architecture.source import ROOT, Source, dotted, report, sources

# Methods that wait when called without arguments: events, conditions, queues, threads, processes, locks, sockets.
WAITING_METHODS = frozenset(
    {
        "wait",
        "get",
        "join",
        "acquire",
        "recv",
        "wait_closed",
    }
)
# Those that take arguments of their own, and still wait. (`gather` waits for what is judged where it waits itself.)
WAITING_CALLS = frozenset({"asyncio.wait"})
LIMITERS = frozenset({"asyncio.timeout", "asyncio.timeout_at", "asyncio.wait_for", "wait_done"})


def is_wait(call: ast.Call) -> bool:
    """Whether the call waits and is not given a limit itself."""
    if any(keyword.arg is not None and "timeout" in keyword.arg for keyword in call.keywords):
        return False
    if dotted(call.func) in WAITING_CALLS:
        return True
    if not isinstance(call.func, ast.Attribute):
        return False
    if call.func.attr == "wait_for":
        return dotted(call.func) not in LIMITERS
    # A context variable is spelled in capitals, and its `get` waits for nobody.
    is_context_variable = dotted(call.func.value).rpartition(".")[2].isupper()
    return call.func.attr in WAITING_METHODS and not call.args and not call.keywords and not is_context_variable


def unlimited_waits(node: ast.AST) -> Iterator[ast.Call]:
    """Waits below the node that no limiter encloses. A nested function runs later, so its surroundings do not count."""
    if isinstance(node, ast.With | ast.AsyncWith) and any(
        isinstance(item.context_expr, ast.Call) and dotted(item.context_expr.func) in LIMITERS for item in node.items
    ):
        for nested in _functions_within(node):
            yield from unlimited_waits(nested)
        return
    if isinstance(node, ast.Call):
        # A task waits by itself; where it is waited for in turn, that is judged.
        if dotted(node.func) in LIMITERS | {"asyncio.create_task"}:
            return
        if is_wait(node):
            yield node
    for child in ast.iter_child_nodes(node):
        yield from unlimited_waits(child)


def _functions_within(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
        else:
            yield from _functions_within(child)


def explained_lines(source: Source, text: str) -> set[int]:
    """Lines that carry or follow a `# bounded` comment, and those of functions whose docstring speaks of the bound."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    rows = {token.start[0] for token in tokens if token.type == tokenize.COMMENT and "bounded" in token.string}
    spoken = [function for function in source.functions() if "bound" in (ast.get_docstring(function) or "").lower()]
    within = {row for function in spoken for row in range(function.lineno, (function.end_lineno or 0) + 1)}
    return rows | {row + 1 for row in rows} | within


def wait_violations(source: Source, text: str) -> list[str]:
    """Waits with neither a limit nor a reason."""
    explained = explained_lines(source, text)
    bare = [call for call in unlimited_waits(source.tree) if call.lineno not in explained]
    return [f"{source.at(call.lineno)}: {ast.unparse(call)}" for call in sorted(bare, key=lambda call: call.lineno)]


def violations_in(text: str) -> list[str]:
    return wait_violations(Source(path=PurePosixPath("common/spy.py"), tree=ast.parse(text)), text)


def test_every_wait_has_a_deadline_or_says_what_bounds_it():
    found = []
    for source in sources("common", "services"):
        found += wait_violations(source, (ROOT / source.path).read_text())
    assert not found, report(found, "every wait has a deadline; where it lies elsewhere, say so: `# bounded: why`")


def test_a_bare_wait_is_caught():
    assert violations_in("async def f(e):\n    await e.wait()\n")
    assert violations_in("async def f(q):\n    return await q.get()\n")
    assert violations_in("async def f(t):\n    await asyncio.wait({t})\n")
    assert violations_in("def f(thread):\n    thread.join()\n")


def test_a_limited_wait_passes():
    assert not violations_in("async def f(e):\n    async with asyncio.timeout(1):\n        await e.wait()\n")
    assert not violations_in("async def f(e):\n    await asyncio.wait_for(e.wait(), 1)\n")
    assert not violations_in("async def f(t):\n    await asyncio.wait({t}, timeout=1)\n")
    assert not violations_in("def f(thread):\n    thread.join(timeout=1)\n")
    assert not violations_in("async def f(e):\n    await e.wait()  # bounded: ends with the task group\n")


def test_a_limit_around_a_definition_does_not_cover_its_later_calls():
    text = """
async def f(e):
    async with asyncio.timeout(1):
        async def g():
            await e.wait()
        keep(g)
"""
    assert violations_in(text)


def test_a_lookup_in_a_mapping_is_no_wait():
    assert not violations_in("def f(table):\n    return table.get('key')\n")
    assert not violations_in("def f():\n    return DEADLINE.get()\n")
