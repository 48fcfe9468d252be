"""What sampling fields may hold. Pure: every violation, each with its field's path.

A comparison is written so that NaN, which is below and above nothing, fails it.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

from common.config.sections.router import RouterSection
from common.core.errors import FieldViolation
from common.core.logprobs import MAX_LOGPROBS
from services.router.asked import AskedSampling

MAX_TEMPERATURE = 2.0
MIN_REPETITION_PENALTY, MAX_REPETITION_PENALTY = 0.01, 10.0
"""Chosen: above 2 hardly anything is ever repeated; both leave room for extremes and keep logits finite: of infinite
ones no rule says which is drawn."""
MAX_PENALTY = 2.0
"""Of frequency and presence, either way: the range that clients of other servers know."""
MAX_BIAS = 100.0
"""Either way: bans a token or makes it certain. The range that clients of other servers know."""
MAX_BIASES = 1024
"""Chosen: other servers take 300; so many cost 8 KB in each placement, and nothing that is felt in a step."""
MAX_ALLOWED = 8192
"""Chosen: the ids of every digit, letter and word of a small language; 24 KB in each placement."""
MAX_BAD_WORDS = 256
MAX_BAD_WORD_CHARS = 256
MAX_BAD_WORD_TOKENS = 64
"""Chosen: a word, a phrase, a link. Each is compared with the end of the output after every token."""
MAX_STOP_TOKENS = 64
MAX_STREAM_INTERVAL = 256
MAX_OUTPUT_TOKENS = 65_536
"""Chosen: n x max_tokens, so that n cannot multiply what one request may cost."""
MAX_VIOLATIONS = 16
"""Chosen: of one list. A thousand bad entries do not crowd the other fields out of the status."""

_INT64 = range(-(1 << 63), 1 << 63)

Found = Iterator[FieldViolation]


def sampling_violations(sampling: AskedSampling, *, vocab_size: int, limits: RouterSection) -> Found:
    """Everything that is out of range."""
    yield from _numbers(sampling)
    yield from _lengths(sampling, limits)
    yield from _stops(sampling, vocab_size, limits)
    yield from islice(_biases(sampling, vocab_size), MAX_VIOLATIONS)
    yield from id_violations(
        "sampling.allowed_token_ids", sampling.allowed_token_ids, vocab_size=vocab_size, limit=MAX_ALLOWED
    )
    yield from islice(_bad_words(sampling, vocab_size), MAX_VIOLATIONS)


def id_violations(field: str, ids: Sequence[int], *, vocab_size: int, limit: int) -> Found:
    """Too many ids, or the first that the model does not have."""
    if len(ids) > limit:
        yield _violation(field, f"{len(ids)} ids, at most {limit}")
    known = ids[:limit]
    if known and not 0 <= min(known) <= max(known) < vocab_size:  # the loop below takes ten times as long
        index = next(index for index, token in enumerate(known) if not 0 <= token < vocab_size)
        yield _violation(f"{field}[{index}]", f"{ids[index]} is not below the vocabulary size of {vocab_size}")


def _violation(field: str, description: str) -> FieldViolation:
    return FieldViolation(field=field, description=description)


def _numbers(sampling: AskedSampling) -> Found:
    if (temperature := sampling.temperature) is not None and not 0 <= temperature <= MAX_TEMPERATURE:
        yield _violation("sampling.temperature", f"{temperature:g} is not between 0 and {MAX_TEMPERATURE:g}")
    if (top_p := sampling.top_p) is not None and not 0 < top_p <= 1:
        yield _violation("sampling.top_p", f"{top_p:g} is not above 0 and at most 1")
    if sampling.top_k is not None and not 0 <= sampling.top_k < 1 << 31:
        yield _violation("sampling.top_k", f"{sampling.top_k} is not 0 (off) or a positive 31-bit number")
    if (min_p := sampling.min_p) is not None and not 0 <= min_p <= 1:
        yield _violation("sampling.min_p", f"{min_p:g} is not between 0 and 1")
    if (repetition := sampling.repetition_penalty) is not None and not (
        MIN_REPETITION_PENALTY <= round(repetition, 6) <= MAX_REPETITION_PENALTY
    ):
        bounds = f"between {MIN_REPETITION_PENALTY:g} and {MAX_REPETITION_PENALTY:g}"
        yield _violation("sampling.repetition_penalty", f"{repetition:g} is not {bounds}")
    for name in ("frequency_penalty", "presence_penalty"):
        penalty = getattr(sampling, name)
        if penalty is not None and not -MAX_PENALTY <= penalty <= MAX_PENALTY:
            yield _violation(f"sampling.{name}", f"{penalty:g} is not between {-MAX_PENALTY:g} and {MAX_PENALTY:g}")
    for name in ("logprobs", "prompt_logprobs"):
        count = getattr(sampling, name)
        if count is not None and not 0 <= count <= MAX_LOGPROBS:
            yield _violation(f"sampling.{name}", f"{count} is not 0 to {MAX_LOGPROBS}")
    if sampling.seed is not None and sampling.seed not in _INT64:
        yield _violation("sampling.seed", f"{sampling.seed} is not a signed 64-bit number")
    if sampling.stream_interval is not None and not 1 <= sampling.stream_interval <= MAX_STREAM_INTERVAL:
        yield _violation("sampling.stream_interval", f"{sampling.stream_interval} is not 1 to {MAX_STREAM_INTERVAL}")


def _lengths(sampling: AskedSampling, limits: RouterSection) -> Found:
    max_tokens, min_tokens, n = sampling.max_tokens, sampling.min_tokens, sampling.n
    if max_tokens is not None and not 1 <= max_tokens < 1 << 31:
        yield _violation("sampling.max_tokens", f"{max_tokens} is not a positive 31-bit number")
    if min_tokens is not None and min_tokens < 0:
        yield _violation("sampling.min_tokens", f"{min_tokens} is negative")
    elif max_tokens is not None and min_tokens is not None and min_tokens > max_tokens:
        yield _violation("sampling.min_tokens", f"{min_tokens} is over max_tokens {max_tokens}")
    if n is not None and not 1 <= n <= limits.max_n:
        yield _violation("sampling.n", f"{n} is not between 1 and {limits.max_n}")
    elif (n or 1) > 1 and (n or 1) * (max_tokens or min_tokens or 1) > MAX_OUTPUT_TOKENS:
        yield _violation("sampling.n", f"n x max_tokens is over the budget of {MAX_OUTPUT_TOKENS} tokens")


def _stops(sampling: AskedSampling, vocab_size: int, limits: RouterSection) -> Found:
    if len(sampling.stop) > limits.max_stop_strings:
        yield _violation("sampling.stop", f"{len(sampling.stop)} strings, at most {limits.max_stop_strings}")
    for index, stop in enumerate(sampling.stop[: limits.max_stop_strings]):
        if not 1 <= len(stop) <= limits.max_stop_chars:
            yield _violation(
                f"sampling.stop[{index}]", f"{len(stop)} characters, 1 to {limits.max_stop_chars} are allowed"
            )
    ids = sampling.stop_token_ids
    yield from id_violations("sampling.stop_token_ids", ids, vocab_size=vocab_size, limit=MAX_STOP_TOKENS)


def _biases(sampling: AskedSampling, vocab_size: int) -> Found:
    if len(sampling.logit_bias) > MAX_BIASES:
        yield _violation("sampling.logit_bias", f"{len(sampling.logit_bias)} entries, at most {MAX_BIASES}")
    for token, bias in islice(sampling.logit_bias.items(), MAX_BIASES):
        if not 0 <= token < vocab_size:
            yield _violation(f"sampling.logit_bias[{token}]", f"is not below the vocabulary size of {vocab_size}")
        elif not (math.isfinite(bias) and -MAX_BIAS <= bias <= MAX_BIAS):
            bounds = f"between {-MAX_BIAS:g} and {MAX_BIAS:g}"
            yield _violation(f"sampling.logit_bias[{token}]", f"{bias:g} is not {bounds}")


def _bad_words(sampling: AskedSampling, vocab_size: int) -> Found:
    words, sequences = sampling.bad_words, sampling.bad_token_sequences
    if len(words) + len(sequences) > MAX_BAD_WORDS:
        yield _violation("sampling.bad_words", f"{len(words) + len(sequences)} words, at most {MAX_BAD_WORDS}")
    for index, word in enumerate(words[:MAX_BAD_WORDS]):
        if not (len(word) <= MAX_BAD_WORD_CHARS and word.strip()):
            bounds = f"1 to {MAX_BAD_WORD_CHARS} are allowed, and not only spaces"
            yield _violation(f"sampling.bad_words[{index}]", f"{len(word)} characters, {bounds}")
    for index, ids in enumerate(sequences[:MAX_BAD_WORDS]):
        field = f"sampling.bad_token_sequences[{index}]"
        if not ids:
            yield _violation(field, "is empty")
        yield from id_violations(f"{field}.ids", ids, vocab_size=vocab_size, limit=MAX_BAD_WORD_TOKENS)
