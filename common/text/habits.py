"""How a model writes beside plain text, as its chat template betrays: calls of tools, thoughts."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

MAX_OPENING_CHARS = 200
"""Chosen: of the end of what a template writes before an answer: a role's head and an opened thought fit into fifty."""

_TOOL_SIGNS = (
    (("<seed:tool_call>",), "seed"),
    (("<tool_call>", "<function="), "xml"),
    (("<tool_call>", "<arg_key>"), ""),  # GLM's, which no gateway reads
    (("<tool_call>",), "hermes"),
    (("[TOOL_CALLS]",), "mistral"),
    (("<|tool_call|>",), "granite"),
    (("<|python_tag|>",), "llama"),
    (('"parameters": dictionary',), "llama"),
)
"""What a template writes for calls of earlier turns, or asks the model to write: the first line found whole."""

_THOUGHT_MARKS = (("<think>", "</think>"), ("<seed:think>", "</seed:think>"), ("[THINK]", "[/THINK]"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """Empty where the template shows nothing of the kind."""

    tool_format: str = ""
    thinks: bool = False
    begins_in_thought: bool = False
    """Where the conversation does not say whether to think."""
    begins_if_thinking: bool = False
    begins_if_not_thinking: bool = False
    """Where it says so: with `enable_thinking` some templates open or close a thought, others do as always."""
    thought_open: str = ""
    thought_close: str = ""
    hides_calls: bool = False
    """Whether what calls are told by is left out of text where special tokens are skipped."""
    hides_thoughts: bool = False


def habits(template: str, opening: Callable[[bool | None], str], hidden: Collection[str] = ()) -> Habits:
    """From the template's source, the end of what it renders before an answer, by `enable_thinking`, and the spellings
    of special tokens.
    """
    signs, form = next((each for each in _TOOL_SIGNS if all(sign in template for sign in each[0])), ((), ""))
    marks = next((each for each in _THOUGHT_MARKS if any(mark in template for mark in each)), None)
    begin, end = marks or ("", "")

    def begins(enable_thinking: bool | None) -> bool:
        return marks is not None and opening(enable_thinking).rstrip().endswith(begin)

    return Habits(
        tool_format=form,
        thinks=marks is not None,
        begins_in_thought=begins(None),
        begins_if_thinking=begins(True),
        begins_if_not_thinking=begins(False),
        thought_open=begin,
        thought_close=end,
        hides_calls=any(sign in hidden for sign in signs),
        hides_thoughts=begin in hidden or end in hidden,
    )
