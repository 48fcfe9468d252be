"""What a client may ask for. Pure: a request in, every violation at once out, each with its field's path.

Ranges are strict and stated; those of sampling are in ranges.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from common.config.sections.router import RouterSection
from common.core.errors import ContextLengthExceeded, FieldViolation, InvalidRequest, NotFound, Reason
from common.core.ids import TokenId
from common.core.logprobs import MAX_PROMPT_SCORES
from common.core.request import Priority
from common.text.conversation import MAX_MESSAGES, ROLES, ToolsTrouble, read_tools
from services.router.asked import Asked
from services.router.ranges import Found, id_violations, sampling_violations

MAX_NAME_CHARS = 128
MAX_SALT_CHARS = 256
MAX_CHAT_VIOLATIONS = 16
"""Chosen: ten thousand bad messages neither hold up other requests nor crowd the other fields out of the status."""

MAX_TOLD, MAX_TOLD_CHARS = 4, 200
"""Chosen: of a status's message, which travels in a header. All are in its details."""

PRIORITIES = {0: Priority.STANDARD, 1: Priority.INTERACTIVE, 2: Priority.STANDARD, 3: Priority.BATCH}
"""By their number in baton.v1.Priority."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The one model served, as far as requests depend on it."""

    name: str
    context_length: int
    vocab_size: int
    eos_token_ids: tuple[TokenId, ...]
    digest: bytes = b""
    pages_digest: bytes = b""
    """What the layouts of workers with this model say; empty: not known."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    bans: tuple[tuple[TokenId, ...], ...] = ()
    """From `temperature` on it is what the model's generation_config says, used where a request says nothing;
    `bans` hold beside its own."""


def check(asked: Asked, *, model: ModelFacts, limits: RouterSection) -> None:
    """Raises InvalidRequest with all violations, or NotFound for another model. `check_length` comes afterwards."""
    if asked.model not in ("", model.name):
        raise NotFound(
            message=f"model {asked.model[:MAX_NAME_CHARS]!r} is not served here", reason=Reason.MODEL_NOT_FOUND
        )
    violations = (
        *_names(asked),
        *_prompt(asked, model, limits),
        *sampling_violations(asked.sampling, vocab_size=model.vocab_size, limits=limits),
    )
    if violations:
        raise InvalidRequest(message=f"invalid: {_told(violations)}", violations=violations)


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


def check_scores(num_prompt: int, prompt_logprobs: int | None) -> None:
    """Log probabilities of a prompt must fit into messages and memory. Raises InvalidRequest, naming the limit."""
    if prompt_logprobs is not None and (needed := num_prompt * (prompt_logprobs + 1)) > MAX_PROMPT_SCORES:
        raise refusal(
            "sampling.prompt_logprobs",
            f"{num_prompt} prompt tokens with {prompt_logprobs} each are {needed} numbers, at most {MAX_PROMPT_SCORES}",
        )


def check_ids(field: str, ids: tuple[int, ...], model: ModelFacts) -> None:
    """Raises InvalidRequest for an id that the model does not have."""
    if violations := tuple(id_violations(field, ids, vocab_size=model.vocab_size, limit=len(ids))):
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


def _told(violations: Sequence[FieldViolation]) -> str:
    """The first few with what is wrong with them: many clients show no details of a status."""
    shown = "; ".join(f"{each.field}: {each.description}"[:MAX_TOLD_CHARS] for each in violations[:MAX_TOLD])
    return shown if len(violations) <= MAX_TOLD else f"{shown}; and {len(violations) - MAX_TOLD} more"


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
        limit, vocab_size = limits.max_prompt_tokens, model.vocab_size
        yield from id_violations("token_ids.ids", asked.token_ids, vocab_size=vocab_size, limit=limit)
        if not asked.token_ids:
            yield _violation("token_ids.ids", "is empty")


def _chat(asked: Asked) -> Found:
    assert asked.chat is not None
    messages = asked.chat.messages
    try:
        read_tools(asked.chat.tools_json)
    except ToolsTrouble as trouble:
        yield _violation(f"chat.{trouble.field}", trouble.why)
    if not messages:
        yield _violation("chat.messages", "is empty")
    if len(messages) > MAX_MESSAGES:
        yield _violation("chat.messages", f"more than {MAX_MESSAGES} messages")
    is_mute = not any(message.content.strip() for message in messages)  # one empty turn among others is the caller's
    for index, message in enumerate(messages[:MAX_MESSAGES]):
        if message.role not in ROLES:
            yield _violation(f"chat.messages[{index}].role", f"must be one of {', '.join(ROLES)}")
        if is_mute and message.role not in ("tool", "assistant"):  # who may have called, or thought
            yield _violation(f"chat.messages[{index}].content", "is empty or only whitespace")
