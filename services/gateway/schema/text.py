"""POST /tokenize and /detokenize."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from common.text.conversation import MAX_MESSAGES, MAX_TOOLS
from services.gateway.schema.body import Body, Id
from services.gateway.schema.chat import Message, TemplateSwitches, Tool, check_ending


class TokenizeBody(Body):
    """A text, or a conversation as a chat would have it."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)] | None = None
    add_special_tokens: bool | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    chat_template_kwargs: TemplateSwitches | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    @property
    def may_think(self) -> bool | None:
        return self.chat_template_kwargs.enable_thinking if self.chat_template_kwargs is not None else None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("`prompt`: exactly one of prompt and messages is needed")
        if self.messages is not None:
            check_ending(self.messages, opens=self.add_generation_prompt, goes_on=self.continue_final_message)
        return self


class DetokenizeBody(Body):
    """Token ids."""

    model: str | None = None
    tokens: list[Id]
    skip_special_tokens: bool | None = None
