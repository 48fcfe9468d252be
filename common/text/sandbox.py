"""Where chat templates run: jinja2's immutable sandbox, without the parts that run away.

A template comes with the model, so its author is trusted not to lie about roles, and not trusted with the process: it
cannot reach attributes, strings grow only by what is written, and loops run only over what was given. What it writes
and how long it takes is bounded by whoever drives it.
"""

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any

from jinja2 import Environment, nodes, pass_environment
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.filters import do_indent, make_attrgetter, sync_do_sum
from jinja2.sandbox import ImmutableSandboxedEnvironment

from common.text.generation_tag import GenerationTag
from common.text.growth import (
    MAX_CHARS,
    is_small_power,
    is_small_product,
    joined,
    replaced,
    weigh,
    weigh_lines,
    weighing,
)

MAX_RANGE_STEPS = 100_000
"""Chosen: of all loops of one rendering: ten for each of the messages that a conversation may have."""

MAX_SEPARATOR_CHARS = 8
MAX_FORM_CHARS = 200
"""Chosen: what templates that people write use is shorter, and what these repeat is bounded with them."""

_PLAIN_FORM = re.compile(r"(?:[^%]|%-?[A-Za-z%])*")

_FILTERS = frozenset(
    {
        "abs", "capitalize", "default", "d", "dictsort", "e", "escape", "first", "float", "groupby", "int",
        "items", "join", "last", "length", "count", "list", "lower", "map", "max", "min", "reject", "rejectattr",
        "replace", "reverse", "select", "selectattr", "sort", "string", "sum", "title", "tojson",
        "trim", "unique", "upper", "safe", "wordcount",
    }
)  # fmt: skip
_METHODS = frozenset(
    {
        "capitalize", "casefold", "count", "endswith", "find", "get", "index", "isalnum", "isalpha", "isdecimal",
        "isdigit", "islower", "isnumeric", "isspace", "isupper", "items", "join", "keys", "lower", "lstrip",
        "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip",
        "split", "splitlines", "startswith", "strip", "title", "upper", "values",
    }
)  # fmt: skip

_WRITING = frozenset(
    {"capitalize", "e", "escape", "lower", "string", "title", "trim", "upper", "wordcount", "tojson", "indent"}
)
"""Filters that make a text of whatever they get."""

_MULTIPLYING: dict[str, Callable[..., str]] = {"join": joined, "replace": replaced}


class RefusedByTemplate(Exception):
    """The template called raise_exception."""


class _Generator(CodeGenerator):
    """Jinja's, but for `~`, which it joins without asking its environment."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802  # jinja's name for it
        self.write("environment.concat((")
        for each in node.nodes:
            self.visit(each, frame)
            self.write(", ")
        self.write("))")


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """Jinja without the parts that run away: strings grow only by what is written, loops only over what was given."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})
    code_generator_class = _Generator

    def __init__(self) -> None:
        extensions = ["jinja2.ext.loopcontrols", GenerationTag]
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions, finalize=weigh)
        self.filters = {name: self.filters[name] for name in _FILTERS if name in self.filters}
        self.filters["tojson"] = _to_json
        self.filters |= {"indent": _indent, "join": _join, "replace": _replace, "sum": _sum}
        self.filters |= {name: weighing(self.filters[name]) for name in _WRITING}
        self.globals = {"raise_exception": _raise_exception, "namespace": self.globals["namespace"]}

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and not is_small_power(left, right):
            raise SecurityError("** of these values")
        if operator == "%" and not (isinstance(left, int) and isinstance(right, int)):
            raise SecurityError("% of these values")
        if operator == "*" and not is_small_product(left, right):
            raise SecurityError("* of a list, of a text to a long one, or of long numbers")
        result = super().call_binop(context, operator, left, right)
        return weigh(result) if isinstance(result, str) else _short(result)

    @staticmethod
    def concat(parts: Iterable[object]) -> str:
        """What `~`, macros and blocks write."""
        return joined("", parts)

    def call(self, context: Any, called: Any, /, *args: Any, **named: Any) -> Any:
        """Methods of texts that multiply are ours."""
        text = getattr(called, "__self__", None)
        ours = _MULTIPLYING.get(called.__name__) if isinstance(text, str) else None
        called = called if ours is None else partial(ours, text)
        return super().call(context, called, *args, **named)

    def wrap_str_format(self, value: Any) -> None:
        """str.format pads to any width: it is no safe method here."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Methods of values: those that cannot blow up a short text."""
        if isinstance(obj, str | list | tuple | dict) and callable(value):
            return attr in _METHODS
        return super().is_safe_attribute(obj, attr, value)


def _short(value: Any) -> Any:
    if hasattr(value, "__len__") and len(value) > MAX_CHARS:
        raise SecurityError(f"a value of {len(value)} elements")
    return value


def bounded_range() -> Callable[..., range]:
    """`range` with one budget for all loops of one rendering."""
    left = MAX_RANGE_STEPS

    def bounded(*bounds: int) -> range:
        nonlocal left
        steps = range(*bounds)
        left -= len(steps)
        if left < 0:
            raise SecurityError(f"over {MAX_RANGE_STEPS} steps of range")
        return steps

    return bounded


def _raise_exception(message: str) -> None:
    raise RefusedByTemplate(str(message)[:200])


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As templates expect it: characters stay themselves, nothing is escaped for HTML."""
    if separators is not None and max(map(len, separators)) > MAX_SEPARATOR_CHARS:
        raise SecurityError("separators of more than a few characters")
    narrow = min(indent, MAX_SEPARATOR_CHARS) if indent is not None else None
    if narrow is not None:
        weigh_lines(value, narrow)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=narrow, separators=separators, sort_keys=sort_keys)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """jinja's, for a few characters."""
    if (len(width) if isinstance(width, str) else width) > MAX_SEPARATOR_CHARS:
        raise SecurityError("an indent of more than a few characters")
    return do_indent(text, width, first, blank)


@pass_environment
def _join(environment: Environment, parts: Iterable[Any], d: object = "", attribute: str | int | None = None) -> str:
    """jinja's, with a bound."""
    chosen = parts if attribute is None else map(make_attrgetter(environment, attribute), parts)
    return joined(str(weigh(d)), chosen)


def _replace(text: object, old: object, new: object, count: int | None = None) -> str:
    """jinja's, with a bound."""
    said, before, after = (str(weigh(each)) for each in (text, old, new))
    return replaced(said, before, after, -1 if count is None else count)


@pass_environment
def _sum(environment: Environment, values: Iterable[Any], attribute: str | int | None = None, start: float = 0) -> Any:
    """jinja's, of numbers: lists in sum would double with every step."""
    if not isinstance(start, int | float):
        raise SecurityError("a sum that is no number")
    return sync_do_sum(environment, values, attribute, start)


def today(wall: float) -> Callable[[str], str]:
    """`strftime_now`, by which templates tell the model the date: local time, without padding to any width."""

    def strftime_now(form: str) -> str:
        if len(form) > MAX_FORM_CHARS or not _PLAIN_FORM.fullmatch(form):
            raise SecurityError("a form of dates with widths, or a long one")
        return datetime.fromtimestamp(wall).astimezone().strftime(form)

    return strftime_now
