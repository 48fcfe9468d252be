"""Qwen 2 and 2.5 (biases below queries, keys and values), Qwen 3 (norms of queries and keys), and their experts."""

from dataclasses import replace

from common.model.families.experts import read_routes, with_experts
from common.model.families.shape import read_shape, read_slides, read_window, uses_windows, with_windows
from common.model.fields import Fields
from common.model.spec import ExpertsSpec, ModelSpec, QueryKeyNorm


def qwen2(fields: Fields) -> ModelSpec:
    return _with_upper_windows(replace(read_shape(fields, "Qwen2ForCausalLM"), has_qkv_bias=True), fields)


def qwen3(fields: Fields) -> ModelSpec:
    return _with_upper_windows(_with_norms(read_shape(fields, "Qwen3ForCausalLM", head_dim=128), fields), fields)


def qwen2_moe(fields: Fields) -> ModelSpec:
    """Routed experts beside one that computes every token."""
    spec = read_shape(fields, "Qwen2MoeForCausalLM")
    if uses_windows(fields) or any(read_slides(fields, [False] * spec.num_layers)):
        raise fields.wrong("use_sliding_window", "or layer_types asks for windows; this architecture has none here")
    return _with_qwen_experts(
        replace(spec, has_qkv_bias=fields.flag("qkv_bias", True)),
        fields,
        shared_intermediate=fields.size("shared_expert_intermediate_size", 5632),
    )


def qwen3_moe(fields: Fields) -> ModelSpec:
    spec = _with_norms(read_shape(fields, "Qwen3MoeForCausalLM"), fields)
    if uses_windows(fields):
        slides = [True] * spec.num_layers
        spec = with_windows(spec, read_window(fields, slides), slides)
    return _with_qwen_experts(spec, fields, shared_intermediate=None)


def _with_norms(spec: ModelSpec, fields: Fields) -> ModelSpec:
    has_bias = fields.flag("attention_bias", False)
    return replace(spec, query_key_norm=QueryKeyNorm.HEAD, has_qkv_bias=has_bias, has_output_bias=has_bias)


def _with_upper_windows(spec: ModelSpec, fields: Fields) -> ModelSpec:
    """Layers from `max_window_layers` on slide, where windows are used at all."""
    uses = uses_windows(fields)
    first = fields.size("max_window_layers", 28) if uses else spec.num_layers
    slides = read_slides(fields, [layer >= first for layer in range(spec.num_layers)])
    if any(slides) and not uses:
        raise fields.wrong("layer_types", "has sliding layers, but use_sliding_window is not true")
    return with_windows(spec, read_window(fields, slides), slides)


def _with_qwen_experts(spec: ModelSpec, fields: Fields, *, shared_intermediate: int | None) -> ModelSpec:
    key = "num_experts" if "num_experts" in fields else "num_local_experts"
    experts = ExpertsSpec(
        num_experts=fields.count(key),
        num_chosen=fields.size("num_experts_per_tok"),
        intermediate=fields.size("moe_intermediate_size"),
        is_normalized=fields.flag("norm_topk_prob", False),
        shared_intermediate=shared_intermediate,
    )
    return with_experts(spec, fields, experts, read_routes(fields, spec.num_layers))
