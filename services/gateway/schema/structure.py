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
    """OpenAI's spelling, and that of servers which put the schema beside the type."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    beside: dict[str, Any] | None = Field(default=None, alias="schema")

    @property
    def document(self) -> dict[str, Any] | None:
        """The schema, wherever it stands."""
        inner = self.json_schema.document if self.json_schema is not None else None
        return self.beside if inner is None else inner

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Raises ValueError for schemas that nobody would follow."""
        if self.type == "text" and (self.json_schema is not None or self.beside is not None):
            raise ValueError("`type`: text, and there is a schema: say json_schema")
        if self.beside is not None and self.json_schema is not None:
            raise ValueError("`schema`: stands beside json_schema; one of them is needed")
        if self.type == "json_schema" and self.document is None:
            raise ValueError("`json_schema.schema`: is missing")
        return self


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
