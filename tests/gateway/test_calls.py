"""Requests that must be answered with a call: what may be written is read as one again, and nothing else may come."""

import json
from functools import cache
from typing import Any

import pytest

from common.core.constraint import Constraint, ConstraintKind
from common.core.errors import InvalidRequest, Unsupported
from common.core.ids import TokenId
from common.text.grammar.compiler import Compiler
from common.text.grammar.vocabulary import byte_vocabulary
from services.gateway.calls import calls_grammar
from services.gateway.reading.piece import Call
from services.gateway.reading.tools import ToolFormat, tool_reader
from services.gateway.routers import Model
from services.gateway.schema.chat import FunctionTool

BOOK: dict[str, Any] = {
    "type": "object",
    "properties": {
        "guest": {"type": "string", "maxLength": 16, "format": "name"},
        "room": {"enum": ["single", "double"]},
        "nights": {"type": "integer", "format": "int64", "maximum": 2**63 - 1},
        "place": {"$ref": "#/$defs/Place"},
    },
    "required": ["guest", "nights"],
    "$defs": {"Place": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
}
TOOLS = [FunctionTool(name="book", parameters=BOOK), FunctionTool(name="stop")]
ALL = {"guest": "Jan\n</p> Novák", "room": "double", "nights": 3, "place": {"city": "Brno"}}


@cache
def compiler() -> Compiler:
    return Compiler(byte_vocabulary())


def takes(grammar: str, text: str) -> bool:
    """Whether all of the text may be written, and the answer may end there."""
    rule = compiler().rule(Constraint(kind=ConstraintKind.GRAMMAR, source=grammar))
    for byte in text.encode():
        if not rule.mask()[byte // 8] >> byte % 8 & 1 or not rule.accept(TokenId(byte)):
            return False
    return rule.is_over or bool(rule.mask()[256 // 8] & 1)


def spelled(arguments: dict[str, Any], *, begin: str, end: str, edge: str) -> str:
    def value(said: object) -> str:
        return said if isinstance(said, str) else json.dumps(said)

    parts = [f"<parameter={key}>{edge}{value(said)}{edge}</parameter>\n" for key, said in arguments.items()]
    return f"{begin}<function=book>\n{''.join(parts)}</function>{end}"


def written(form: ToolFormat, arguments: dict[str, Any]) -> str:
    """As the format's models are taught."""
    whole = json.dumps(arguments, ensure_ascii=False)
    match form:
        case ToolFormat.HERMES:
            return f'<tool_call>\n{{"name": "book", "arguments": {whole}}}\n</tool_call>'
        case ToolFormat.XML:
            return spelled(arguments, begin="<tool_call>\n", end="\n</tool_call>", edge="\n")
        case ToolFormat.SEED:
            return spelled(arguments, begin="<seed:tool_call>\n", end="\n</seed:tool_call>", edge="")
        case _:
            return f'{{"name": "book", "parameters": {whole}}}'


FORMS = [ToolFormat.HERMES, ToolFormat.XML, ToolFormat.SEED, ToolFormat.LLAMA]


def model(form: ToolFormat, **more: Any) -> Model:
    return Model(name="m", context_length=64, tools=form, **more)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("arguments", [ALL, {"guest": "", "nights": 1}])
def test_a_call_may_be_written_and_is_read_as_it_was_meant(form: ToolFormat, arguments: dict[str, Any]) -> None:
    text = written(form, arguments)
    assert takes(calls_grammar(model(form), TOOLS, is_one=True, after=""), text)
    reader = tool_reader(form, {"book": BOOK})
    [call] = [*reader.push(text), *reader.finish()]
    assert isinstance(call, Call)
    assert json.loads(call.arguments) == arguments


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "arguments",
    [
        {"guest": "x"},
        {"guest": "x", "nights": "three"},
        {"guest": "x", "room": "triple", "nights": 1},
        {"guest": "x" * 17, "nights": 1},
    ],
    ids=["without what is required", "of another type", "of no choice", "too long"],
)
def test_what_the_schema_does_not_allow_may_not_be_written(form: ToolFormat, arguments: dict[str, Any]) -> None:
    grammar = calls_grammar(model(form), TOOLS, is_one=True, after="")
    assert not takes(grammar, written(form, arguments))
    assert not takes(grammar, "Of course! " + written(form, ALL))


@pytest.mark.parametrize("form", FORMS)
def test_a_thought_and_more_calls_may_be_written_where_they_may_come(form: ToolFormat) -> None:
    text, between = written(form, ALL), "; " if form is ToolFormat.LLAMA else "\n"
    many = calls_grammar(model(form), TOOLS, is_one=False, after="</think>")
    assert takes(many, f"Hm.</think>\n\n{text}{between}{text}")
    assert not takes(calls_grammar(model(form), TOOLS, is_one=True, after=""), f"{text}{between}{text}")


@pytest.mark.parametrize(
    "served",
    [model(ToolFormat.MISTRAL), model(ToolFormat.GRANITE), model(ToolFormat.XML, hides_calls=True)],
    ids=["mistral", "granite", "xml with special tokens"],
)
def test_what_a_grammar_cannot_spell_is_told(served: Model) -> None:
    with pytest.raises(Unsupported, match="special tokens"):
        calls_grammar(served, TOOLS, is_one=True, after="")


@pytest.mark.parametrize("form", FORMS)
def test_bounds_that_no_grammar_keeps_are_told(form: ToolFormat) -> None:
    tools = [FunctionTool(name="f", parameters={"properties": {"a": {"type": "integer", "minimum": 2**63}}})]
    with pytest.raises(InvalidRequest, match=r"2\^53"):
        calls_grammar(model(form), tools, is_one=True, after="")


def test_a_parameter_that_no_mark_can_name_is_told() -> None:
    tools = [FunctionTool(name="f", parameters={"properties": {"a>b": {}}})]
    with pytest.raises(Unsupported, match="no name of a parameter"):
        calls_grammar(model(ToolFormat.XML), tools, is_one=True, after="")


@pytest.mark.parametrize("parameters", [None, {}, {"properties": 5}, {"properties": {"a": True}}, {"required": 5}])
def test_a_schema_that_says_little_is_enough(parameters: dict[str, Any] | None) -> None:
    tools = [FunctionTool(name="f", parameters=parameters)]
    grammar = calls_grammar(model(ToolFormat.XML), tools, is_one=True, after="")
    assert takes(grammar, "<tool_call>\n<function=f>\n</function>\n</tool_call>")
