"""Calls of tools as each kind of model takes them: a grammar for requests that must be answered with one, and ids."""

from collections.abc import Sequence

from common.core.entropy import Entropy, mint_name
from common.core.errors import Unsupported
from services.gateway.call_rules import Pattern, quoted
from services.gateway.reading.tools import ToolFormat
from services.gateway.routers import Model
from services.gateway.schema.chat import FunctionTool

MAX_CALLS = 16
"""Chosen: in one answer. A weak model would otherwise call until its tokens are spent."""

PATTERNS = {
    ToolFormat.HERMES: Pattern(begin="<tool_call>\n", end="\n</tool_call>", key="arguments"),
    ToolFormat.XML: Pattern(begin="<tool_call>\n", end="\n</tool_call>", edge="\n"),
    ToolFormat.SEED: Pattern(begin="<seed:tool_call>\n", end="\n</seed:tool_call>"),
    ToolFormat.LLAMA: Pattern(key="parameters", between="; "),
}
"""Of the formats whose marks are text: grammars spell no special tokens."""


def mint_call(entropy: Entropy, form: ToolFormat) -> str:
    """An id for a call. Templates of Mistral's take nine letters and digits, and nothing else, when it comes back."""
    return f"{entropy.bits(36):09x}" if form is ToolFormat.MISTRAL else mint_name(entropy, "call")


def calls_grammar(model: Model, tools: Sequence[FunctionTool], *, is_one: bool, after: str) -> str:
    """In Lark's notation. `after`: a mark that ends the thought which comes first. Raises Unsupported."""
    pattern = PATTERNS.get(model.tools)
    if pattern is None or (pattern.begin and model.hides_calls):
        told = f"tool_choice cannot be enforced for the {model.tools} format, whose marks are special tokens: use auto"
        raise Unsupported(message=told)
    names = [f"call{number}" for number in range(len(tools))]
    more = "" if is_one else f" ({quoted(pattern.between)} call){{0,{MAX_CALLS - 1}}}"
    lines = [f"start: {'thought space ' if after else ''}call{more}", f"call: {' | '.join(names)}"]
    if after:
        lines += [f"thought[suffix={quoted(after)}]: /(?s:.*)/", r"space: /\n{0,2}/"]
    for name, tool in zip(names, tools, strict=True):
        lines += pattern.rules(name, tool)
    return "\n".join(lines) + "\n"
