"""What an answer must look like, in the spellings that are in use."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from services.gateway.schema.body import Body


class JsonSchema(Body):
    """A schema with a name. It is always enforced, `strict` or not."""

    name: str | None = None
    description: str | None = None
    document: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Body):
    """OpenAI's spelling."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(Body):
    """vLLM's spelling: exactly one of them."""

    json_form: dict[str, Any] | str | None = Field(default=None, alias="json")
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        """A form that is not known here may not pass for none: the answer would look like anything."""
        said = (self.json_form, self.regex, self.choice, self.grammar)
        if not self.json_object and all(each is None for each in said):
            raise ValueError("has none of json, json_object, regex, choice and grammar")
        return self
