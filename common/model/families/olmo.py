"""OLMo 2 and 3: norms after each half of a layer and none before, queries and keys normalised over all heads together.
OLMoE normalises before, and its networks are experts.
"""

from dataclasses import replace

from common.model.families.experts import with_experts
from common.model.families.shape import read_shape, read_slides, read_window, with_windows
from common.model.fields import Fields
from common.model.layer_names import LayerNames
from common.model.rope_fields import read_ropes
from common.model.rope_form import Rope
from common.model.spec import ExpertsSpec, ModelSpec, QueryKeyNorm

NAMES = LayerNames(
    attention_norm=None,
    attention_output_norm="post_attention_layernorm",
    mlp_norm=None,
    mlp_output_norm="post_feedforward_layernorm",
)
EPSILON = {"rms_norm_eps": 1e-5}


def olmo2(fields: Fields) -> ModelSpec:
    return replace(_olmo(fields, "Olmo2ForCausalLM"), names=NAMES)


def olmo3(fields: Fields) -> ModelSpec:
    """Three of four layers slide, on a rope that is not stretched."""
    num_layers, num_heads = fields.count("num_hidden_layers"), fields.size("num_attention_heads")
    slides = read_slides(fields, [(layer + 1) % 4 != 0 for layer in range(num_layers)])
    head_dim = fields.size("head_dim", max(1, fields.size("hidden_size") // num_heads))
    theta = fields.number("rope_theta", 500_000.0)
    whole, local = read_ropes(fields, head_dim, whole_theta=theta, local_theta=theta)
    fields = fields.with_defaults({"sliding_window": 4096})
    spec = _olmo(fields, "Olmo3ForCausalLM", ropes=[local if does else whole for does in slides])
    return with_windows(replace(spec, names=NAMES), read_window(fields, slides), slides)


def olmoe(fields: Fields) -> ModelSpec:
    spec = _olmo(fields, "OlmoeForCausalLM")
    experts = ExpertsSpec(
        num_experts=fields.count("num_experts", 64),
        num_chosen=fields.size("num_experts_per_tok", 8),
        intermediate=spec.intermediate,
        is_normalized=fields.flag("norm_topk_prob", False),
    )
    return with_experts(spec, fields, experts, [True] * spec.num_layers)


def _olmo(fields: Fields, architecture: str, ropes: list[Rope] | None = None) -> ModelSpec:
    fields = fields.with_defaults(EPSILON)
    has_bias = fields.flag("attention_bias", False)
    return replace(
        read_shape(fields, architecture, ropes=ropes),
        query_key_norm=QueryKeyNorm.ALL,
        has_qkv_bias=has_bias,
        has_output_bias=has_bias,
    )
