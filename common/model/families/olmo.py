"""OLMo 2: norms after each half of a layer and none before, queries and keys normalised over all heads together."""

from dataclasses import replace

from common.model.families.shape import read_shape
from common.model.fields import Fields
from common.model.layer_names import LayerNames
from common.model.spec import ModelSpec, QueryKeyNorm

NAMES = LayerNames(
    attention_norm=None,
    attention_output_norm="post_attention_layernorm",
    mlp_norm=None,
    mlp_output_norm="post_feedforward_layernorm",
)


def olmo2(fields: Fields) -> ModelSpec:
    fields = fields.with_defaults({"rms_norm_eps": 1e-5})
    has_bias = fields.flag("attention_bias", False)
    return replace(
        read_shape(fields, "Olmo2ForCausalLM"),
        query_key_norm=QueryKeyNorm.ALL,
        has_qkv_bias=has_bias,
        has_output_bias=has_bias,
        names=NAMES,
    )
