"""Phi-3 and 3.5, dense: queries, keys and values in one matrix, gate and up in another, ropes for long contexts."""

from dataclasses import replace

from common.model.families.shape import read_shape, with_windows
from common.model.fields import Fields
from common.model.layer_names import LayerNames
from common.model.spec import ModelSpec

NAMES = LayerNames(qkv=("self_attn.qkv_proj",), gate_up=("mlp.gate_up_proj",))


def phi3(fields: Fields) -> ModelSpec:
    fields = fields.with_defaults({"rms_norm_eps": 1e-5})
    spec = replace(read_shape(fields, "Phi3ForCausalLM", turns_all=False), names=NAMES)
    return with_windows(spec, fields.optional_size("sliding_window"), [True] * spec.num_layers)
