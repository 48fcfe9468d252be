"""POST /v1/chat/completions."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from common.text.conversation import MAX_MESSAGES, MAX_TOOLS
from services.gateway.schema.body import Body
from services.gateway.schema.sampling import SamplingBody

NO_EFFORT = "none"
"""The one `reasoning_effort` that can be kept: not to think."""

ToolChoice = Literal["none", "auto", "required"]


def read_choice(value: Any) -> Any:
    """pydantic would tell what each of the forms lacks."""
    is_named = isinstance(value, dict) and value.get("type") == "function" and isinstance(value.get("function"), dict)
    if value is None or is_named or (isinstance(value, str) and value in get_args(ToolChoice)):
        return value
    words = ", ".join(get_args(ToolChoice))
    raise ValueError(f'must be one of {words}, or {{"type": "function", "function": {{"name": ...}}}}')


def read_content(value: Any) -> Any:
    """A text, or a list of text parts, which become one text with a line break between them."""
    if not isinstance(value, list):
        return value
    texts = []
    for index, part in enumerate(value):
        if not isinstance(part, dict) or part.get("type") not in ("text", "input_text", "refusal"):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise ValueError(f"part {index} is of type {str(kind)[:40]!r}: only text is served")
        text = part.get("text", part.get("refusal"))
        if not isinstance(text, str):
            raise ValueError(f"part {index} has no text")  # noqa: TRY004 - pydantic tells ValueErrors
        texts.append(text)
    return "\n".join(texts)


class CalledFunction(Body):
    """Which function, and its arguments as the model wrote them: JSON, in a string."""

    name: str
    arguments: str = ""


class ToolCall(Body):
    """A call that the assistant asked for in an earlier turn."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class FunctionTool(Body):
    """A function as the model may call it. `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool that the model may call."""

    type: Literal["function"]
    function: FunctionTool


class NamedFunction(Body):
    """A function by its name."""

    name: str


class NamedTool(Body):
    """The one tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class TemplateSwitches(Body):
    """What of the chat template a client may turn: named one by one, never passed through."""

    enable_thinking: bool | None = None


class Message(Body):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | None, BeforeValidator(read_content)] = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    """What was thought before: clients send answers back as they got them. Templates decide what they show again."""
    reasoning: str | None = None
    """The same, as others call it."""

    @property
    def may_go_on(self) -> bool:
        """Whether an answer can go on where its text ends."""
        return self.role == "assistant" and bool(self.content) and not self.tool_calls

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"`tool_calls`: belong to the assistant, not to {self.role}")
        if self.reasoning_content and self.reasoning and self.reasoning_content != self.reasoning:
            raise ValueError("`reasoning`: says another thing than reasoning_content")
        if self.content is None and self.role != "assistant":  # who may have called a tool, or only thought
            raise ValueError("`content`: is missing")
        return self


def check_ending(messages: Sequence[Message], *, opens: bool | None, goes_on: bool | None) -> None:
    """Where an answer begins. Raises ValueError where nothing can go on."""
    if goes_on and opens:
        raise ValueError("`continue_final_message`: an answer goes on, or add_generation_prompt opens one")
    if goes_on and not messages[-1].may_go_on:
        raise ValueError("`continue_final_message`: the last message is no text of the assistant's")


class ChatBody(SamplingBody):
    """A conversation, and how its next turn is to be written."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Annotated[ToolChoice | NamedTool | None, BeforeValidator(read_choice)] = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: TemplateSwitches | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    functions: list[Any] | None = None
    """Before there were tools. Read so that it can be refused: without them the model would answer something else."""
    modalities: list[str] | None = None

    @property
    def wants_tools(self) -> bool:
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def may_think(self) -> bool | None:
        """None where nothing is said of it: the template's own way."""
        said = self.chat_template_kwargs.enable_thinking if self.chat_template_kwargs is not None else None
        if said is not None:
            return said
        return False if self.reasoning_effort == NO_EFFORT else None

    @property
    def unknown(self) -> tuple[str, ...]:
        """Efforts between none and all are not served."""
        names = super().unknown
        is_served = self.reasoning_effort in (None, NO_EFFORT)
        return names if is_served else tuple(sorted((*names, "reasoning_effort")))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.functions:
            raise ValueError("`functions`: an older spelling that is not served: send tools")
        if set(self.modalities or ()) - {"text"}:
            raise ValueError("`modalities`: only text is served")
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            raise ValueError("`tools`: two of them have the same name: nobody could tell which is called")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise ValueError("`tool_choice`: names a tool that is not among the tools")
        if self.tool_choice == "required" and not names:
            raise ValueError("`tool_choice`: required, and there are no tools")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("`top_logprobs`: needs logprobs: true")
        check_ending(self.messages, opens=self.add_generation_prompt, goes_on=self.continue_final_message)
        return self
