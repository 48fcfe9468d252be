"""Llama 2, 3 and later, what is shaped like them (TinyLlama, SmolLM, Falcon 3), and their near relations: SmolLM 3,
Granite, Seed-OSS.
"""

from dataclasses import replace

from common.model.families.shape import read_shape, read_slides, read_window, uses_windows, with_scale, with_windows
from common.model.fields import Fields
from common.model.spec import ModelSpec


def llama(fields: Fields) -> ModelSpec:
    return _with_biases(read_shape(fields, "LlamaForCausalLM"), fields)


def granite(fields: Fields) -> ModelSpec:
    """Llama with four multipliers."""
    spec = replace(
        _with_biases(read_shape(fields, "GraniteForCausalLM"), fields),
        embedding_scale=fields.number("embedding_multiplier", 1.0),
        residual_scale=fields.number("residual_multiplier", 1.0),
        logit_divisor=fields.number("logits_scaling", 1.0),
    )
    return with_scale(spec, fields.number("attention_multiplier", 1.0))


def seed_oss(fields: Fields) -> ModelSpec:
    """Llama whose attention has biases below, and may have them above."""
    return replace(
        read_shape(fields, "SeedOssForCausalLM", head_dim=128),
        has_qkv_bias=fields.flag("attention_bias", True),
        has_output_bias=fields.flag("attention_out_bias", False),
        has_mlp_bias=fields.flag("mlp_bias", False),
    )


def smollm3(fields: Fields) -> ModelSpec:
    """Some layers, usually every fourth, do not turn their queries and keys."""
    spec = _with_biases(read_shape(fields, "SmolLM3ForCausalLM", theta=2_000_000.0, is_tied=True), fields)
    interval = fields.size("no_rope_layer_interval", 4)
    turns: tuple[str | int, ...] = tuple(int((layer + 1) % interval != 0) for layer in range(spec.num_layers))
    if "no_rope_layers" in fields:
        turns = fields.choices("no_rope_layers", (0, 1))
        if len(turns) < spec.num_layers:
            raise fields.wrong("no_rope_layers", f"has {len(turns)} entries for {spec.num_layers} layers")
    own = zip(spec.layers, turns, strict=False)
    spec = replace(spec, layers=tuple(layer if turned else replace(layer, rope=None) for layer, turned in own))
    is_sliding = uses_windows(fields)
    slides = read_slides(fields, [is_sliding and layer.rope is None for layer in spec.layers])
    return with_windows(spec, read_window(fields, slides), slides)


def _with_biases(spec: ModelSpec, fields: Fields) -> ModelSpec:
    has_bias = fields.flag("attention_bias", False)
    return replace(spec, has_qkv_bias=has_bias, has_output_bias=has_bias, has_mlp_bias=fields.flag("mlp_bias", False))
