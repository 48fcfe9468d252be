"""Defaults for generation that came with a model: which tokens end an answer, and how to sample."""

from collections.abc import Mapping
from dataclasses import dataclass

from common.core.ids import TokenId
from common.model.fields import Fields
from common.model.folder import CONFIG_FILE, GENERATION_FILE

MAX_TEMPERATURE, MAX_REPETITION_PENALTY = 2.0, 10.0
"""As in requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationDefaults:
    """`eos_ids` end an answer. Sampling numbers are None where the model's authors said nothing."""

    eos_ids: tuple[TokenId, ...]
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


def generation_defaults(config: Mapping[str, object], generation: Mapping[str, object]) -> GenerationDefaults:
    """Read generation_config.json; end tokens fall back to config.json. Raises StartupError for wrong types.

    A temperature of 0 is greedy, a top_k of 0 no limit, as in requests. Without sampling only the penalty counts.
    """
    fields = Fields(generation, GENERATION_FILE)
    eos_ids = fields.ids("eos_token_id") or Fields(config, CONFIG_FILE).ids("eos_token_id")
    samples = fields.flag("do_sample", True)
    return GenerationDefaults(
        eos_ids=tuple(TokenId(token) for token in eos_ids),
        temperature=fields.optional_number("temperature", MAX_TEMPERATURE)
        if samples and not fields.is_zero("temperature")
        else 0.0,
        top_p=fields.optional_number("top_p", 1.0) if samples else None,
        top_k=fields.optional_size("top_k") if samples and not fields.is_zero("top_k") else None,
        min_p=fields.optional_number("min_p", 1.0) if samples and not fields.is_zero("min_p") else None,
        repetition_penalty=fields.optional_number("repetition_penalty", MAX_REPETITION_PENALTY),
    )
