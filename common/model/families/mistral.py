"""Mistral and Mixtral: every layer looks through a window, if there is one; Mixtral's networks are experts."""

from dataclasses import replace

from common.model.families.experts import with_experts
from common.model.families.shape import read_shape, read_slides, read_window, with_windows
from common.model.fields import Fields
from common.model.layer_names import ExpertNames, LayerNames
from common.model.spec import ExpertsSpec, ModelSpec

MIXTRAL_EXPERTS = ExpertNames(
    router="block_sparse_moe.gate",
    gate_up=("block_sparse_moe.experts.{}.w1", "block_sparse_moe.experts.{}.w3"),
    down="block_sparse_moe.experts.{}.w2",
)


def mistral(fields: Fields) -> ModelSpec:
    fields = fields.with_defaults({"sliding_window": 4096})
    return _with_window(read_shape(fields, "MistralForCausalLM"), fields)


def ministral(fields: Fields) -> ModelSpec:
    """Mistral with windows by layer."""
    fields = fields.with_defaults({"sliding_window": 4096})
    spec = read_shape(fields, "MinistralForCausalLM")
    slides = read_slides(fields, ["sliding_window" in fields] * spec.num_layers)
    return with_windows(spec, read_window(fields, slides), slides)


def mixtral(fields: Fields) -> ModelSpec:
    fields = fields.with_defaults({"rms_norm_eps": 1e-5})
    spec = _with_window(read_shape(fields, "MixtralForCausalLM", theta=1_000_000.0), fields)
    experts = ExpertsSpec(
        num_experts=fields.count("num_local_experts"),
        num_chosen=fields.size("num_experts_per_tok"),
        intermediate=spec.intermediate,
        is_normalized=True,
    )
    spec = with_experts(spec, fields, experts, [True] * spec.num_layers)
    return replace(spec, names=LayerNames(experts=MIXTRAL_EXPERTS))


def _with_window(spec: ModelSpec, fields: Fields) -> ModelSpec:
    return with_windows(spec, fields.optional_size("sliding_window"), [True] * spec.num_layers)
