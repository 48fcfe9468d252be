"""How to write: the fields that completions and chat share."""

from types import MappingProxyType
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from services.gateway.schema.body import Body, Count, Id
from services.gateway.schema.structure import ResponseFormat, StructuredOutputs

MAX_CHOICES = 128
MAX_TOP_K = 2**31 - 1
MAX_BIASES = 1024
MAX_ENTRIES = 1024
MAX_IDS = 65_536
"""Of one list, far above what a router takes and says: a million wrong entries would hold up everybody's events."""


ELSEWHERE = MappingProxyType(
    {
        "ebnf": "guided_grammar",
        "grammar": "guided_grammar",
        "json_schema": "response_format",
        "regex": "guided_regex",
        "structural_tag": "guided_grammar",
        "guided_structural_tag": "guided_grammar",
    }
)
"""How other servers call what an answer must look like, and the field for it here. Passing over them would leave the
answer free."""


def as_list(value: Any) -> Any:
    """One string stands for a list of one."""
    return [value] if isinstance(value, str) else value


def few_biases(value: Any) -> Any:
    """Counted before they are looked at: pydantic would tell what is wrong with each."""
    if isinstance(value, dict) and len(value) > MAX_BIASES:
        raise ValueError(f"{len(value)} entries, at most {MAX_BIASES}")
    return value


Texts = Annotated[list[str], Field(max_length=MAX_ENTRIES)]
Strings = Annotated[Texts, BeforeValidator(as_list)]
Ids = Annotated[list[Id], Field(max_length=MAX_IDS, fail_fast=True)]


class StreamOptions(Body):
    """What a stream carries beside text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


class SamplingBody(Body):
    """Absent and null are the same: the model's own default."""

    model: str | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Annotated[int, Field(ge=-1, le=MAX_TOP_K)] | None = None
    min_p: float | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Strings | None = None
    stop_token_ids: Ids | None = None
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    min_tokens: Count | None = None
    ignore_eos: bool | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Annotated[dict[str, float] | None, BeforeValidator(few_biases)] = None
    allowed_token_ids: Ids | None = None
    bad_words: Texts | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    prompt_logprobs: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    priority: int | str | None = None
    cache_salt: str | None = None
    return_token_ids: bool | None = None
    waterfall: bool | None = None
    response_format: ResponseFormat | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: Annotated[list[str], Field(fail_fast=True)] | None = None
    guided_grammar: str | None = None
    structured_outputs: StructuredOutputs | None = None
    # Known, and without effect on what is written.
    user: str | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    store: bool | None = None

    @model_validator(mode="after")
    def _is_ours(self) -> Self:
        for name in ELSEWHERE.keys() & (self.model_extra or {}).keys():
            if (self.model_extra or {})[name] is not None:
                raise ValueError(f"`{name}`: another server's field: {ELSEWHERE[name]} says it here")
        return self
