"""What a client may ask for. Pure: a request in, every violation at once out, each with its field's path.

Ranges are strict and stated. A field that this release knows and does not serve is refused unless it holds the value
that changes nothing: silently ignoring it would be a wrong answer.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from common.config.sections.router import RouterSection
from common.core.errors import ContextLengthExceeded, FieldViolation, InvalidRequest, NotFound, Reason
from common.core.ids import TokenId
from common.core.request import Priority
from common.text.chat import MAX_MESSAGES, ROLES
from services.router.asked import Asked, AskedSampling

MAX_TEMPERATURE = 2.0
MAX_STOP_TOKENS = 64
MAX_STREAM_INTERVAL = 256
MAX_NAME_CHARS = 128
MAX_SALT_CHARS = 256
MAX_CHAT_VIOLATIONS = 16
"""Chosen: ten thousand bad messages neither hold up other requests nor crowd the other fields out of the status."""
MAX_OUTPUT_TOKENS = 65_536
"""Chosen: n x max_tokens, so that n cannot multiply what one request may cost."""

PRIORITIES = {0: Priority.STANDARD, 1: Priority.INTERACTIVE, 2: Priority.STANDARD, 3: Priority.BATCH}
"""By their number in baton.v1.Priority."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]*")
_INT64 = range(-(1 << 63), 1 << 63)

Found = Iterator[FieldViolation]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The one model served, as far as requests depend on it."""

    name: str
    context_length: int
    vocab_size: int
    eos_token_ids: tuple[TokenId, ...]
    digest: bytes = b""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """The last three are what the model's generation_config says, used where a request says nothing."""


def check(asked: Asked, *, model: ModelFacts, limits: RouterSection) -> None:
    """Raises InvalidRequest with all violations, or NotFound for another model. `check_length` comes afterwards."""
    if asked.model not in ("", model.name):
        raise NotFound(
            message=f"model {asked.model[:MAX_NAME_CHARS]!r} is not served here", reason=Reason.MODEL_NOT_FOUND
        )
    violations = (
        *_names(asked),
        *_prompt(asked, model, limits),
        *_ranges(asked.sampling, limits),
        *_stops(asked.sampling, model, limits),
        *_unserved(asked.sampling),
    )
    if violations:
        fields = ", ".join(dict.fromkeys(violation.field for violation in violations))
        raise InvalidRequest(message=f"invalid: {fields}", violations=violations)


def check_length(num_prompt: int, max_tokens: int | None, *, model: ModelFacts, limits: RouterSection) -> None:
    """The prompt as tokens must leave room for the answer. Raises InvalidRequest, naming both numbers and the limit."""
    if num_prompt == 0:
        raise refusal("prompt", "no tokens are left of it")
    if num_prompt > limits.max_prompt_tokens:
        raise _too_long("prompt", f"{num_prompt} prompt tokens are over the limit of {limits.max_prompt_tokens}")
    wanted = num_prompt + (max_tokens or 1)
    if wanted > model.context_length:
        raise _too_long(
            "sampling.max_tokens" if num_prompt < model.context_length else "prompt",
            f"{num_prompt} prompt tokens and max_tokens {max_tokens or 1} are {wanted}, "
            f"over the context length of {model.context_length}",
        )


def check_ids(field: str, ids: tuple[int, ...], model: ModelFacts) -> None:
    """Raises InvalidRequest for an id that the model does not have."""
    if violations := tuple(_token_ids(field, ids, model, len(ids))):
        raise InvalidRequest(message=f"{field}: {violations[0].description}", violations=violations)


def refusal(field: str, description: str) -> InvalidRequest:
    """One violation, to raise."""
    violation = FieldViolation(field=field, description=description)
    return InvalidRequest(message=f"{field}: {description}", violations=(violation,))


def _too_long(field: str, description: str) -> ContextLengthExceeded:
    return ContextLengthExceeded(
        message=description, violations=(FieldViolation(field=field, description=description),)
    )


def _violation(field: str, description: str) -> FieldViolation:
    return FieldViolation(field=field, description=description)


def _names(asked: Asked) -> Found:
    for field, value in (("request_id", asked.request_id), ("tenant", asked.tenant)):
        if value and (len(value) > MAX_NAME_CHARS or not _NAME.fullmatch(value)):
            yield _violation(
                field, f"up to {MAX_NAME_CHARS} letters, digits and . _ : @ / + -, beginning with a letter or digit"
            )
    if len(asked.cache_salt) > MAX_SALT_CHARS:
        yield _violation("cache_salt", f"{len(asked.cache_salt)} characters, at most {MAX_SALT_CHARS}")
    if asked.priority not in PRIORITIES:
        yield _violation("priority", f"{asked.priority} is no priority")


def _prompt(asked: Asked, model: ModelFacts, limits: RouterSection) -> Found:
    given = [value for value in (asked.text, asked.chat, asked.token_ids) if value is not None]
    if len(given) != 1:
        yield _violation("prompt", f"exactly one of text, chat and token_ids is needed, {len(given)} are set")
    if asked.text is not None and not asked.text:
        yield _violation("text", "is empty")
    if asked.chat is not None:
        yield from islice(_chat(asked), MAX_CHAT_VIOLATIONS)
    if asked.token_ids is not None:
        yield from _token_ids("token_ids.ids", asked.token_ids, model, limits.max_prompt_tokens)
        if not asked.token_ids:
            yield _violation("token_ids.ids", "is empty")


def _chat(asked: Asked) -> Found:
    messages = asked.chat or ()
    if not messages:
        yield _violation("chat.messages", "is empty")
    if len(messages) > MAX_MESSAGES:
        yield _violation("chat.messages", f"more than {MAX_MESSAGES} messages")
    for index, message in enumerate(messages[:MAX_MESSAGES]):
        if message.role not in ROLES:
            yield _violation(f"chat.messages[{index}].role", f"must be one of {', '.join(ROLES)}")
        if not message.content.strip():
            yield _violation(f"chat.messages[{index}].content", "is empty or only whitespace")


def _token_ids(field: str, ids: tuple[int, ...], model: ModelFacts, limit: int) -> Found:
    if len(ids) > limit:
        yield _violation(field, f"{len(ids)} ids, at most {limit}")
    known = ids[:limit]
    if known and not 0 <= min(known) <= max(known) < model.vocab_size:  # the loop below takes ten times as long
        index = next(index for index, token in enumerate(known) if not 0 <= token < model.vocab_size)
        yield _violation(f"{field}[{index}]", f"{ids[index]} is not below the vocabulary size of {model.vocab_size}")


def _ranges(sampling: AskedSampling, limits: RouterSection) -> Found:
    if (temperature := sampling.temperature) is not None and not 0 <= temperature <= MAX_TEMPERATURE:
        yield _violation("sampling.temperature", f"{temperature:g} is not between 0 and {MAX_TEMPERATURE:g}")
    if (top_p := sampling.top_p) is not None and not 0 < top_p <= 1:
        yield _violation("sampling.top_p", f"{top_p:g} is not above 0 and at most 1")
    if sampling.top_k is not None and not 0 <= sampling.top_k < 1 << 31:
        yield _violation("sampling.top_k", f"{sampling.top_k} is not 0 (off) or a positive 31-bit number")
    if sampling.seed is not None and sampling.seed not in _INT64:
        yield _violation("sampling.seed", f"{sampling.seed} is not a signed 64-bit number")
    if sampling.max_tokens is not None and not 1 <= sampling.max_tokens < 1 << 31:
        yield _violation("sampling.max_tokens", f"{sampling.max_tokens} is not a positive 31-bit number")
    if sampling.min_tokens is not None and sampling.min_tokens < 0:
        yield _violation("sampling.min_tokens", f"{sampling.min_tokens} is negative")
    elif (
        sampling.max_tokens is not None
        and sampling.min_tokens is not None
        and sampling.min_tokens > sampling.max_tokens
    ):
        yield _violation("sampling.min_tokens", f"{sampling.min_tokens} is over max_tokens {sampling.max_tokens}")
    if sampling.n is not None and not 1 <= sampling.n <= limits.max_n:
        yield _violation("sampling.n", f"{sampling.n} is not between 1 and {limits.max_n}")
    elif (sampling.n or 1) > 1 and (sampling.n or 1) * (sampling.max_tokens or 1) > MAX_OUTPUT_TOKENS:
        yield _violation("sampling.n", f"n x max_tokens is over the budget of {MAX_OUTPUT_TOKENS} tokens")
    if sampling.stream_interval is not None and not 1 <= sampling.stream_interval <= MAX_STREAM_INTERVAL:
        yield _violation("sampling.stream_interval", f"{sampling.stream_interval} is not 1 to {MAX_STREAM_INTERVAL}")


def _stops(sampling: AskedSampling, model: ModelFacts, limits: RouterSection) -> Found:
    if len(sampling.stop) > limits.max_stop_strings:
        yield _violation("sampling.stop", f"{len(sampling.stop)} strings, at most {limits.max_stop_strings}")
    for index, stop in enumerate(sampling.stop[: limits.max_stop_strings]):
        if not 1 <= len(stop) <= limits.max_stop_chars:
            yield _violation(
                f"sampling.stop[{index}]", f"{len(stop)} characters, 1 to {limits.max_stop_chars} are allowed"
            )
    yield from _token_ids("sampling.stop_token_ids", sampling.stop_token_ids, model, MAX_STOP_TOKENS)


def _unserved(sampling: AskedSampling) -> Found:
    """Known to the protocol, not served by this release, and not holding the value that changes nothing."""
    unused = {
        "min_p": sampling.min_p in (None, 0.0),
        "repetition_penalty": sampling.repetition_penalty in (None, 1.0),
        "frequency_penalty": sampling.frequency_penalty in (None, 0.0),
        "presence_penalty": sampling.presence_penalty in (None, 0.0),
        "logit_bias": not sampling.logit_bias or all(bias == 0 for bias in sampling.logit_bias.values()),
        "allowed_token_ids": not sampling.allowed_token_ids,
        "bad_words": not sampling.bad_words,
        "logprobs": sampling.logprobs is None,
        "prompt_logprobs": sampling.prompt_logprobs is None,
    }
    for name, is_unused in unused.items():
        if not is_unused:
            yield _violation(f"sampling.{name}", "is not served by this release: leave it out")
