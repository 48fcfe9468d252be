"""Rotary position embedding as config.json spells it, in all its old and new ways."""

import math

from common.model.fields import Fields
from common.model.rope_form import LinearScaling, Llama3Scaling, LongScaling, Rope, Scaling, YarnScaling

ALIASES = {"su": "longrope"}
KNOWN_KINDS = "default, linear, dynamic, llama3, yarn and longrope"
COMMON_KEYS = frozenset({"rope_type", "type", "rope_theta", "partial_rotary_factor", "finetuned"})
KEYS = {
    "default": frozenset({"factor", "original_max_position_embeddings"}),
    "linear": frozenset({"factor"}),
    "dynamic": frozenset({"factor", "original_max_position_embeddings"}),
    "llama3": frozenset({"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}),
    "yarn": frozenset(
        {
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
        }
    ),
    "longrope": frozenset(
        {"factor", "original_max_position_embeddings", "attention_factor", "short_factor", "long_factor"}
    ),
}
"""What each kind of scaling may say; another key would change the numbers in a way that is not known here."""


def read_rope(fields: Fields, head_dim: int, *, theta: float = 10_000.0, turns_all: bool = True) -> Rope:
    """Rotary embedding from `rope_parameters` (newer configs), or `rope_theta` with `rope_scaling` (older ones).

    `theta` is the family's default base. A family that `turns_all` channels refuses to turn some.
    """
    newer, older = fields.nested("rope_parameters"), fields.nested("rope_scaling")
    if newer is not None and older is not None:
        raise fields.wrong("rope_scaling", "stands beside rope_parameters; one of them is needed")
    theta = fields.number("rope_theta", theta)
    share = 1.0 if turns_all else fields.number("partial_rotary_factor", 1.0)
    return rope_from(newer or older, fields, head_dim, theta=theta, share=share, turns_all=turns_all)


def read_ropes(fields: Fields, head_dim: int, *, whole_theta: float, local_theta: float) -> tuple[Rope, Rope]:
    """Of layers that see all, and of layers that slide. An older `rope_scaling` is for the former alone."""
    newer, older = fields.nested("rope_parameters"), fields.nested("rope_scaling")
    if newer is not None and older is not None:
        raise fields.wrong("rope_scaling", "stands beside rope_parameters; one of them is needed")
    whole, local = older, None
    if newer is not None:
        newer.refuse_others(("full_attention", "sliding_attention"), "is neither full_attention nor sliding_attention")
        whole, local = newer.nested("full_attention"), newer.nested("sliding_attention")
    return (
        rope_from(whole, fields, head_dim, theta=whole_theta),
        rope_from(local, fields, head_dim, theta=local_theta),
    )


def rope_from(
    own: Fields | None, fields: Fields, head_dim: int, *, theta: float, share: float = 1.0, turns_all: bool = True
) -> Rope:
    """The rope of one object of parameters, or a plain one; `theta` and `share` hold where it does not say."""
    scaling = None
    if own is not None:
        theta, share = own.number("rope_theta", theta), own.number("partial_rotary_factor", share)
        if turns_all and share != 1.0:
            raise own.wrong("partial_rotary_factor", f"is {share:g}; every channel is turned in this family")
    if theta <= 1.0:
        raise (own or fields).wrong("rope_theta", f"is {theta:g}; more than 1 is needed")
    rope = Rope(theta=theta, scaling=None, share=share)
    num_turned = rope.num_turned(head_dim)
    if num_turned % 2 or not 0 < num_turned <= head_dim:
        raise fields.wrong("head_dim", f"is {head_dim}, of which {num_turned} are turned; an even number is needed")
    if own is not None:
        scaling = _read_scaling(own, fields, num_turned)
    return Rope(theta=theta, scaling=scaling, share=share)


def _read_scaling(own: Fields, fields: Fields, num_turned: int) -> Scaling | None:
    kind = own.text("rope_type", own.text("type", "default"))
    kind = ALIASES.get(kind, kind)
    if kind not in KEYS:
        raise own.wrong("rope_type", f"is {kind}; known are {KNOWN_KINDS}")
    own.refuse_others(COMMON_KEYS | KEYS[kind], f"is not known for rope_type {kind}")
    match kind:
        case "linear":
            return LinearScaling(factor=own.number("factor"))
        case "dynamic":
            own.number("factor")
            return None  # It begins beyond max_position_embeddings, and no context is longer.
        case "llama3":
            return _llama3_scaling(own, fields)
        case "yarn":
            return _yarn_scaling(own, fields)
        case "longrope":
            return _long_scaling(own, fields, num_turned)
        case _:
            return None


def _llama3_scaling(own: Fields, fields: Fields) -> Llama3Scaling:
    scaling = Llama3Scaling(
        factor=own.number("factor"),
        low_freq_factor=own.number("low_freq_factor"),
        high_freq_factor=own.number("high_freq_factor"),
        original_positions=_original_positions(own, fields),
    )
    if scaling.low_freq_factor >= scaling.high_freq_factor:
        raise own.wrong("low_freq_factor", f"is {scaling.low_freq_factor}, not below high_freq_factor")
    return scaling


def _yarn_scaling(own: Fields, fields: Fields) -> YarnScaling:
    original = _original_positions(own, fields)
    factor = own.number("factor", fields.size("max_position_embeddings") / original)
    mscale, mscale_all = own.optional_number("mscale"), own.optional_number("mscale_all_dim")
    attention_factor = _yarn_attention(factor)
    if mscale is not None and mscale_all is not None:
        attention_factor = _yarn_attention(factor, mscale) / _yarn_attention(factor, mscale_all)
    return YarnScaling(
        factor=factor,
        original_positions=original,
        beta_fast=own.number("beta_fast", 32.0),
        beta_slow=own.number("beta_slow", 1.0),
        attention_factor=own.number("attention_factor", attention_factor),
        truncates=own.flag("truncate", True),
    )


def _yarn_attention(factor: float, mscale: float = 1.0) -> float:
    """What the paper suggests: longer contexts need sharper attention."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def _long_scaling(own: Fields, fields: Fields, num_turned: int) -> LongScaling:
    original = _original_positions(own, fields)
    factor = own.number("factor", fields.size("max_position_embeddings") / original)
    suggested = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    short, long = own.numbers("short_factor"), own.numbers("long_factor")
    for key, factors in (("short_factor", short), ("long_factor", long)):
        if len(factors) != num_turned // 2:
            raise own.wrong(key, f"has {len(factors)} entries; {num_turned // 2} channel pairs are turned")
    return LongScaling(
        short=short,
        long=long,
        original_positions=original,
        attention_factor=own.number("attention_factor", suggested),
    )


def _original_positions(own: Fields, fields: Fields) -> int:
    """The context a model was first trained on. The config's own field goes first, as in the library it is made for."""
    nested = own.size("original_max_position_embeddings", fields.size("max_position_embeddings"))
    original = fields.size("original_max_position_embeddings", nested)
    if original < 2:
        raise fields.wrong("original_max_position_embeddings", f"is {original}; at least 2 is needed")
    return original
