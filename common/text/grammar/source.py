"""From a constraint to what llguidance compiles."""

import json
from typing import assert_never

from llguidance import LLMatcher, regex_to_lark

from common.core.constraint import JSON_WHITE_SPACE, Constraint, ConstraintKind
from common.text.grammar.depth import check_depth
from common.text.grammar.limits import MAX_CHOICES
from common.text.grammar.regex import read_regex
from common.text.grammar.schema import read_schema
from common.text.grammar.trouble import ConstraintTrouble


def compiled_source(constraint: Constraint) -> str:
    """Raises ConstraintTrouble for what can be told without compiling."""
    if constraint.kind is ConstraintKind.GRAMMAR:
        check_depth(constraint.source, has_strings=True)
        if constraint.after:
            raise ConstraintTrouble("a grammar cannot follow a thought")
        return LLMatcher.grammar_from_lark(constraint.source)
    answer = _rule(constraint)
    if not constraint.after:
        return LLMatcher.grammar_from_lark(f"start: answer\nanswer: {answer}\n")
    mark = json.dumps(constraint.after)
    return LLMatcher.grammar_from_lark(
        f"start: thought space answer\nthought[suffix={mark}]: /(?s:.*)/\nspace: /\\n{{0,2}}/\nanswer: {answer}\n"
    )


def _rule(constraint: Constraint) -> str:
    """The right side of a rule in Lark's notation."""
    match constraint.kind:
        case ConstraintKind.JSON_SCHEMA:
            return _json(read_schema(constraint.source))
        case ConstraintKind.JSON_OBJECT:
            return _json({"type": "object"})
        case ConstraintKind.REGEX:
            return f"/{regex_to_lark(read_regex(constraint.source), use_ascii='')}/"
        case ConstraintKind.CHOICE:
            return " | ".join(json.dumps(text, ensure_ascii=False) for text in _choices(constraint.source))
        case ConstraintKind.GRAMMAR:
            raise AssertionError("a grammar is a source of its own")
        case _:
            assert_never(constraint.kind)


def _json(schema: object) -> str:
    document = {} if schema is True else schema
    if isinstance(document, dict):
        document = {**document, "x-guidance": {"whitespace_pattern": JSON_WHITE_SPACE}}
    return f"%json {json.dumps(document)}"


def _choices(source: str) -> list[str]:
    texts = json.loads(source)
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ConstraintTrouble("choices must be texts that are not empty, and at least one")
    if len(texts) > MAX_CHOICES:
        raise ConstraintTrouble(f"{len(texts)} choices, at most {MAX_CHOICES}")
    return list(texts)
