"""What a model's authors never want drawn, and what else they ask of sampling that is not done here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.core.ids import TokenId
from common.model.fields import Fields

MAX_BANS = 1024
"""Chosen: ten times what speech models suppress. They travel with every placement and are read at every token."""

OVERLOOKED: Mapping[str, tuple[object, ...]] = {
    "assistant_early_exit": (),
    "begin_suppress_tokens": ([],),
    "constraints": ([],),
    "diversity_penalty": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "exponential_decay_length_penalty": (),
    "force_words_ids": ([],),
    "forced_bos_token_id": (),
    "forced_decoder_ids": ([],),
    "forced_eos_token_id": ([],),
    "guidance_scale": (1,),
    "max_new_tokens": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "no_repeat_ngram_size": (0,),
    "num_beams": (1,),
    "penalty_alpha": (0,),
    "sequence_bias": ({}, []),
    "stop_strings": ([],),
    "top_h": (),
    "typical_p": (1,),
    "watermarking_config": (),
}
"""Fields that change which tokens come, or how many, each with the values that change nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forbidden:
    """`bans` are sequences that no output contains; `overlooked` are fields that are not followed."""

    bans: tuple[tuple[TokenId, ...], ...] = ()
    overlooked: tuple[str, ...] = ()


def forbidden(fields: Fields, vocab_size: int, eos_ids: tuple[TokenId, ...]) -> Forbidden:
    """`suppress_tokens` and `bad_words_ids`. Raises StartupError for wrong types.

    As transformers reads them, a bad word that is nothing but an end is none. An id that the model lacks never comes.
    """
    ends = {(end,) for end in eos_ids}
    told: Mapping[str, Sequence[tuple[int, ...]]] = {
        "suppress_tokens": [(token,) for token in fields.ids("suppress_tokens")],
        "bad_words_ids": [word for word in fields.id_lists("bad_words_ids") if word not in ends],
    }
    overlooked, bans = list(fields.telling(OVERLOOKED)), list[tuple[TokenId, ...]]()
    for key, words in told.items():
        possible = [tuple(map(TokenId, word)) for word in words if max(word) < vocab_size]
        if len(bans) + len(possible) > MAX_BANS:
            overlooked.append(f"{key} (over {MAX_BANS})")
        else:
            bans.extend(possible)
    return Forbidden(bans=tuple(dict.fromkeys(bans)), overlooked=tuple(sorted(overlooked)))
