"""How a model writes beside plain text, as its chat template betrays: calls of tools, thoughts."""

from dataclasses import dataclass

MAX_OPENING_CHARS = 200

_TOOL_MARKS = (
    ("<tool_call>", "hermes"),
    ("[TOOL_CALLS]", "mistral"),
    ("<|python_tag|>", "llama"),
    ('"parameters": dictionary', "llama"),
)
"""What a template writes for calls of earlier turns, or asks the model to write; the first that is found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """Empty where the template shows nothing of the kind."""

    tool_format: str = ""
    thinks: bool = False
    begins_in_thought: bool = False


def habits(template: str, opening: str) -> Habits:
    """From the template's source, and the end of what it renders before an answer."""
    return Habits(
        tool_format=next((form for mark, form in _TOOL_MARKS if mark in template), ""),
        thinks="<think>" in template or "</think>" in template,
        begins_in_thought=opening.rstrip().endswith("<think>"),
    )
