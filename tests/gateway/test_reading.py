"""Content, thoughts and calls, told apart whatever the pieces in which the text comes."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.reading.piece import Call, Content, Piece, PlainReader, Reader, Thought
from services.gateway.reading.thoughts import ThoughtReader, joined
from services.gateway.reading.tools import ToolFormat, tool_reader

TOOLS = {
    "look_up": {"properties": {"word": {"type": "string"}}},
    "add": {"properties": {"a": {"type": "integer"}, "b": {"type": "array"}}},
}
LOOK = Call("look_up", '{"word": "žluť"}')
ADD = Call("add", '{"a": 1, "b": [2]}')

CASES = {
    ToolFormat.HERMES: {
        "plain words < not a mark": [Content("plain words < not a mark")],
        '<tool_call>\n{"name": "look_up", "arguments": {"word": "žluť"}}\n</tool_call>': [LOOK],
        'Let me see. <tool_call>{"name": "add", "arguments": {"a": 1, "b": [2]}}</tool_call>': [
            Content("Let me see. "),
            ADD,
        ],
        '<tool_call>{"name": "add", "arguments": {"a": 1, "b": [2]}}</tool_call>'
        '<tool_call>{"name": "look_up", "arguments": {"word": "žluť"}}</tool_call>': [ADD, LOOK],
        '<tool_call>{"name": "add", "arguments": {"a": 1, "b": [2]}}': [ADD],
        "<tool_call>{not json</tool_call>": [Content("<tool_call>{not json</tool_call>")],
        '<tool_call>{"name": "other", "arguments": {}}</tool_call>': [
            Content('<tool_call>{"name": "other", "arguments": {}}</tool_call>')
        ],
        "ends in <tool_c": [Content("ends in <tool_c")],
        'So: <tool_call>{"name": "look_up", "arguments": {"word": "a\\"</tool_call> <tool_call>b</tool_call>"}}'
        "</tool_call>": [
            Content("So: "),
            Call("look_up", '{"word": "a\\"</tool_call> <tool_call>b</tool_call>"}'),
        ],
        '<tool_call>{"name": "look_up", "arguments": {"word": "</tool_call>"}}': [
            Call("look_up", '{"word": "</tool_call>"}')
        ],
        '<tool_call>{"name": "add", "arg": 1"}</tool_call> or '
        '<tool_call>{"name": "add", "arguments": {"a": 1, "b": [2]}}</tool_call>.': [
            Content('<tool_call>{"name": "add", "arg": 1"}</tool_call> or '),
            ADD,
            Content("."),
        ],
        '<tool_call>{"name": "ad</tool_call> or <tool_call>{"name": "add"': [
            Content('<tool_call>{"name": "ad</tool_call> or <tool_call>{"name": "add"')
        ],
        '<tool_call>"</tool_call>' * 40: [Content('<tool_call>"</tool_call>' * 40)],
    },
    ToolFormat.XML: {
        "<tool_call>\n<function=look_up>\n<parameter=word>\n<tool_call>x</tool_call>\n</parameter>\n</function>\n"
        "</tool_call>": [Call("look_up", '{"word": "<tool_call>x</tool_call>"}')],
        "plain < words, <func": [Content("plain < words, <func")],
        "I will.\n<tool_call>\n<function=look_up>\n<parameter=word>\nžluť\n</parameter>\n</function>\n</tool_call>": [
            Content("I will.\n"),
            LOOK,
        ],
        "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\n[2]\n</parameter>\n</function>\n"
        "</tool_call><tool_call><function=look_up><parameter=word>žluť</parameter></function></tool_call>": [ADD, LOOK],
        "<function=look_up>\n<parameter=word>\nžluť\n</parameter>\n</function>\n</tool_call>": [LOOK],
        "<tool_call>\n<function=look_up>\n<parameter=word>\nžl": [
            Content("<tool_call>\n<function=look_up>\n<parameter=word>\nžl")
        ],
        "<tool_call>\n<function=other>\n</function>\n</tool_call>": [
            Content("<tool_call>\n<function=other>\n</function>\n</tool_call>")
        ],
        "<function=add> is how": [Content("<function=add> is how")],
    },
    ToolFormat.SEED: {
        "plain <tool_call> words": [Content("plain <tool_call> words")],
        "<seed:tool_call>\n<function=look_up>\n<parameter=word>žluť</parameter>\n</function>\n</seed:tool_call>": [
            LOOK
        ],
    },
    ToolFormat.GRANITE: {
        "plain [words]": [Content("plain [words]")],
        '<|tool_call|>[{"name": "add", "arguments": {"a": 1, "b": [2]}}, {"name": "look_up", "arguments": '
        '{"word": "žluť"}}]': [ADD, LOOK],
        "<|tool_call|> nothing": [Content("<|tool_call|> nothing")],
    },
    ToolFormat.MISTRAL: {
        "plain [words]": [Content("plain [words]")],
        '[TOOL_CALLS] [{"name": "look_up", "arguments": {"word": "žluť"}}]': [LOOK],
        'Well. [TOOL_CALLS][{"name": "look_up", "arguments": {"word": "žluť"}}, '
        '{"name": "add", "arguments": {"a": 1, "b": [2]}}]': [Content("Well. "), LOOK, ADD],
        '[TOOL_CALLS]add[ARGS]{"a": 1, "b": [2]}': [ADD],
        '[TOOL_CALLS]add{"a": 1, "b": [2]}[TOOL_CALLS]look_up{"word": "žluť"}': [ADD, LOOK],
        '[TOOL_CALLS]add[CALL_ID]a1b2c3d4e[ARGS]{"a": 1, "b": [2]}': [ADD],
        '[TOOL_CALLS] [{"name": "look_up", "arguments": {"word": "say [TOOL_CALLS]!"}}]': [
            Call("look_up", '{"word": "say [TOOL_CALLS]!"}')
        ],
        "[TOOL_CALLS] nothing": [Content("[TOOL_CALLS] nothing")],
    },
    ToolFormat.LLAMA: {
        "plain {words}": [Content("plain {words}")],
        '{"name": "look_up", "parameters": {"word": "žluť"}}': [LOOK],
        '<|python_tag|>{"name": "add", "parameters": {"a": 1, "b": [2]}}; {"name": "look_up", "parameters": '
        '{"word": "žluť"}}': [ADD, LOOK],
        '{"answer": 42}': [Content('{"answer": 42}')],
        '{"name": "look_up", "parameters": {"word"': [Content('{"name": "look_up", "parameters": {"word"')],
    },
}


def read(reader: Reader, text: str, cuts: list[int]) -> list[Piece]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    pieces = [piece for start, end in pairwise(edges) for piece in reader.push(text[start:end])]
    return joined([*pieces, *reader.finish()])


@pytest.mark.parametrize(("form", "text"), [(form, text) for form, cases in CASES.items() for text in cases])
@given(cuts=st.lists(st.integers(0, 1000), max_size=12))
def test_calls_and_content_do_not_depend_on_how_the_text_is_cut(form: ToolFormat, text: str, cuts: list[int]) -> None:
    assert read(tool_reader(form, TOOLS), text, cuts) == CASES[form][text]


@given(text=st.text('<tool_cal>/{}"name:= [TOOL_CALLS]x\n', max_size=60), cuts=st.lists(st.integers(0, 99), max_size=6))
@pytest.mark.parametrize("form", list(ToolFormat))
def test_nothing_that_a_model_wrote_is_lost_where_it_called_nothing(
    form: ToolFormat, text: str, cuts: list[int]
) -> None:
    pieces = read(tool_reader(form, TOOLS), text, cuts)
    assert all(isinstance(piece, Content) for piece in pieces)
    written = "".join(piece.text for piece in pieces if isinstance(piece, Content))
    assert written == text


@given(cuts=st.lists(st.integers(0, 1000), max_size=12))
def test_thoughts_are_split_off(cuts: list[int]) -> None:
    text = "<think>hm,\n2 < 3</think>\n\nThree. <think>sure?</think>Yes"
    expected = [Thought("hm,\n2 < 3"), Content("Three. "), Thought("sure?"), Content("Yes")]
    assert read(ThoughtReader(PlainReader()), text, cuts) == expected
    inside = read(ThoughtReader(PlainReader(), begins_inside=True), "hm</think>Yes", cuts)
    assert inside == [Thought("hm"), Content("Yes")]


def test_a_call_may_follow_a_thought() -> None:
    text = "<think>I need it</think>\n<tool_call>" + json.dumps({"name": "add", "arguments": {"a": 1, "b": [2]}})
    reader = ThoughtReader(tool_reader(ToolFormat.HERMES, TOOLS))
    assert read(reader, text + "</tool_call>", [9, 40]) == [Thought("I need it"), ADD]


@given(cuts=st.lists(st.integers(0, 1000), max_size=12))
@pytest.mark.parametrize("form", [ToolFormat.HERMES, ToolFormat.MISTRAL, ToolFormat.XML])
def test_marks_of_thoughts_within_a_call_are_arguments(form: ToolFormat, cuts: list[int]) -> None:
    """Who writes a file about models has their marks in it."""
    word = "a <think>b</think> c"
    call = f'{{"name": "look_up", "arguments": {{"word": "{word}"}}}}'
    text = {
        ToolFormat.HERMES: f"<tool_call>{call}</tool_call>",
        ToolFormat.MISTRAL: f"[TOOL_CALLS][{call}]",
        ToolFormat.XML: f"<tool_call><function=look_up><parameter=word>{word}</parameter></function></tool_call>",
    }[form]
    told = read(ThoughtReader(tool_reader(form, TOOLS)), f"<think>hm</think>{text}", cuts)
    assert told == [Thought("hm"), Call("look_up", json.dumps({"word": word}))]


@pytest.mark.parametrize("name", ['["add"]', "{}", "null", "1"])
def test_a_call_whose_name_is_no_text_is_content(name):
    text = f'<tool_call>{{"name": {name}, "arguments": {{}}}}</tool_call>'
    reader = tool_reader(ToolFormat.HERMES, TOOLS)
    assert joined([*reader.push(text), *reader.finish()]) == [Content(text)]


@pytest.mark.parametrize("arguments", ['{"a": "\\ud800"}', '"\\ud800"', '{"a": NaN}', '{"a": [1e999]}'])
def test_arguments_that_no_client_can_read_do_not_break_the_answer(arguments):
    text = f'<tool_call>{{"name": "add", "arguments": {arguments}}}</tool_call>'
    reader = tool_reader(ToolFormat.HERMES, TOOLS)
    assert joined([*reader.push(text), *reader.finish()]) == [Content(text)]


def test_thoughts_may_stand_between_marks_of_their_own():
    reader = ThoughtReader(PlainReader(), begin="[THINK]", end="[/THINK]")
    assert read(reader, "[THINK]hm[/THINK] Yes <think>", [3, 9]) == [Thought("hm"), Content("Yes <think>")]
