"""POST /v1/completions."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from services.gateway.schema.sampling import SamplingBody

MAX_PROMPTS = 128
"""Chosen: each is a request of its own to a router."""

Prompt = str | tuple[int, ...]
"""Text, or token ids."""


def read_number(value: Any) -> Any:
    """`false` is how clients of the chat form switch them off."""
    return None if value is False else value


def read_prompts(value: Any) -> list[Prompt]:
    """A text, a list of texts, a list of ids, or a list of lists of ids."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):  # pydantic tells ValueErrors, not TypeErrors
        raise ValueError("must be a text, a list of texts, token ids or lists of token ids")  # noqa: TRY004
    if not value:
        raise ValueError("is empty")
    if type(value[0]) is int:
        return [_ids(value)]
    if len(value) > MAX_PROMPTS:
        raise ValueError(f"{len(value)} prompts, at most {MAX_PROMPTS}")
    if all(isinstance(item, str) for item in value):
        return list(value)
    return [_ids(item) for item in value]


def _ids(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ValueError("must be all texts, all token ids or all lists of token ids")  # noqa: TRY004
    if not value:
        raise ValueError("a list of token ids is empty")
    if not all(type(item) is int for item in value):
        raise ValueError("token ids must be whole numbers")
    if min(value) < 0 or max(value) >= 2**32:
        raise ValueError(f"token id {min(value) if min(value) < 0 else max(value)} is outside every vocabulary")
    return tuple(value)


def _not_empty(prompts: list[Prompt]) -> list[Prompt]:
    if any(not prompt for prompt in prompts):
        raise ValueError("is empty")
    return prompts


class CompletionBody(SamplingBody):
    """One or several prompts, continued."""

    prompt: Annotated[list[Any], BeforeValidator(read_prompts), AfterValidator(_not_empty)]
    echo: bool | None = None
    logprobs: Annotated[Annotated[int, Field(ge=0, le=20)] | None, BeforeValidator(read_number)] = None
    best_of: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    suffix: str | None = None
    add_special_tokens: bool | None = None
    max_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """0 writes nothing: the prompt comes back, with its scores where they are asked for."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.best_of not in (None, self.n or 1):
            raise ValueError(f"`best_of`: {self.best_of} is served only where it equals n ({self.n or 1})")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("`max_tokens`: 0 writes nothing: at least 1, or echo to have the prompt back")
        if self.suffix:
            raise ValueError("`suffix`: is not served: leave it out")
        return self
