"""POST /tokenize and /detokenize."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from services.gateway.schema.body import Body, Id
from services.gateway.schema.chat import MAX_MESSAGES, Message


class TokenizeBody(Body):
    """A text or a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)] | None = None
    add_special_tokens: bool | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("`prompt`: exactly one of prompt and messages is needed")
        return self


class DetokenizeBody(Body):
    """Token ids."""

    model: str | None = None
    tokens: list[Id]
    skip_special_tokens: bool | None = None
