"""A request as the client wrote it: nothing checked, nothing resolved. None is absent, where absent means something."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.core.constraint import Constraint
from common.text.conversation import Conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedSampling:
    """Spelled as in baton.v1.SamplingParams."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    n: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    stream_interval: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    allowed_token_ids: tuple[int, ...] = ()
    bad_words: tuple[str, ...] = ()
    bad_token_sequences: tuple[tuple[int, ...], ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Exactly one of text, chat and token_ids is not None in a valid request."""

    request_id: str = ""
    model: str = ""
    text: str | None = None
    chat: Conversation | None = None
    token_ids: tuple[int, ...] | None = None
    sampling: AskedSampling = AskedSampling()
    priority: int = 0
    """As the wire spells it: 0 is unspecified."""
    tenant: str = ""
    cache_salt: str = ""
    return_token_ids: bool = False
    echo: bool = False
    resumable: bool = False
    constraint: Constraint | None = None
