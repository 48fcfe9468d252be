"""A JSON schema before it is compiled: read, and asked whether any finite document satisfies it."""

import json
from collections.abc import Mapping
from typing import Any

from common.core.json_schema import settled
from common.text.grammar.depth import check_depth
from common.text.grammar.trouble import ConstraintTrouble


def read_schema(source: str) -> Any:
    """The schema as a document to compile. Raises ConstraintTrouble."""
    check_depth(source, has_strings=True)
    try:
        schema = json.loads(source, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ConstraintTrouble(f"is no JSON: {error}") from error
    if not isinstance(schema, dict | bool):
        raise ConstraintTrouble("must be an object")
    if not _Ends(schema).ends(schema):
        raise ConstraintTrouble("requires itself: no finite answer satisfies it")
    try:
        return settled(schema)
    except ValueError as error:
        raise ConstraintTrouble(str(error)) from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


class _Ends:
    """Whether a schema can be satisfied by a finite document, as far as references tell.

    A reference that is being followed already needs an endless document; where there is another way, that is taken.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._followed: set[str] = set()
        self._known: dict[str, bool] = {}

    def ends(self, schema: Any) -> bool:
        if not isinstance(schema, dict):
            return True
        reference = schema.get("$ref")
        if isinstance(reference, str) and not self._reference_ends(reference):
            return False
        parts = [schema[name] for name in ("allOf",) if isinstance(schema.get(name), list)]
        if not all(self.ends(part) for group in parts for part in group):
            return False
        for name in ("anyOf", "oneOf"):
            ways = schema.get(name)
            if isinstance(ways, list) and ways and not any(map(self.ends, ways)):
                return False
        return self._contents_end(schema)

    def _reference_ends(self, reference: str) -> bool:
        if reference in self._known:
            return self._known[reference]
        if reference in self._followed:
            return False
        self._followed.add(reference)
        found = _resolve(self._root, reference)
        self._known[reference] = self.ends(found)
        self._followed.discard(reference)
        return self._known[reference]

    def _contents_end(self, schema: Mapping[str, Any]) -> bool:
        """What an object requires, what an array must hold. Another type that is allowed needs neither."""
        kind = schema.get("type")
        properties, required = schema.get("properties"), schema.get("required")
        if kind in ("object", None) and isinstance(properties, dict) and isinstance(required, list):
            wanted = [properties[name] for name in required if isinstance(name, str) and name in properties]
            if not all(self.ends(value) for value in wanted):
                return False
        if kind == "array" and isinstance(schema.get("minItems"), int) and schema["minItems"] > 0:
            return self.ends(schema.get("items"))
        return True


def _resolve(root: Any, reference: str) -> Any:
    """What a path within the document names; True, which ends, for everything else: that is the engine's to find."""
    if reference != "#" and not reference.startswith("#/"):
        return True
    found = root
    for part in reference[1:].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        else:
            return True
    return found
