"""The table of values in the chart's README, made of values.yaml: every leaf, its default, and the comment above it."""

import json
import re
from collections.abc import Iterator
from typing import Any

LIKE_ROUTER = ("prefill", "decode", "gateway", "planner")
LINE = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z]+):")


def table(text: str, values: dict[str, Any]) -> str:
    """Markdown. Blocks shaped like `router` list only what differs from it."""
    comments = dict(_comments(text))
    lines = ["| value | default | |", "|---|---|---|"]
    for path, value in _leaves("", values):
        role, _, rest = path.partition(".")
        if role in LIKE_ROUTER and _at(values["router"], rest) == value:
            continue
        lines.append(f"| `{path}` | `{json.dumps(value)}` | {comments.get(path, '')} |")
    return "\n".join(lines) + "\n"


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value and path.count(".") < 3:
        for key, below in value.items():
            yield from _leaves(f"{path}.{key}".strip("."), below)
    else:
        yield path, value


def _at(values: object, path: str) -> object:
    for key in path.split("."):
        if not isinstance(values, dict) or key not in values:
            return None
        values = values[key]
    return values


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """Path and comment of each key that has one above it."""
    above: list[str] = []
    path: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            above.append(stripped.lstrip("# "))
        elif match := LINE.match(line):
            depth = len(match["indent"]) // 2
            path = [*path[:depth], match["key"]]
            if above:
                yield ".".join(path), " ".join(above).replace("|", "\\|")
            above = []
        else:
            above = []
