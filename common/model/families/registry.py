"""Every known architecture, and the fields that no config may say in vain."""

from collections.abc import Callable, Mapping

from common.model.families.exaone import exaone4
from common.model.families.gemma import gemma, gemma2, gemma3, gemma3_text
from common.model.families.llama import granite, llama, seed_oss, smollm3
from common.model.families.mistral import ministral, mistral, mixtral
from common.model.families.olmo import olmo2, olmo3, olmoe
from common.model.families.phi import phi3
from common.model.families.qwen import qwen2, qwen2_moe, qwen3, qwen3_moe
from common.model.fields import Fields
from common.model.folder import CONFIG_FILE, load_failed
from common.model.spec import ModelSpec

FAMILIES: Mapping[str, Callable[[Fields], ModelSpec]] = {
    "Exaone4ForCausalLM": exaone4,
    "GemmaForCausalLM": gemma,
    "Gemma2ForCausalLM": gemma2,
    "Gemma3ForCausalLM": gemma3,
    "Gemma3ForConditionalGeneration": gemma3_text,
    "GraniteForCausalLM": granite,
    "LlamaForCausalLM": llama,
    "MinistralForCausalLM": ministral,
    "MistralForCausalLM": mistral,
    "MixtralForCausalLM": mixtral,
    "Olmo2ForCausalLM": olmo2,
    "Olmo3ForCausalLM": olmo3,
    "OlmoeForCausalLM": olmoe,
    "Phi3ForCausalLM": phi3,
    "Qwen2ForCausalLM": qwen2,
    "Qwen2MoeForCausalLM": qwen2_moe,
    "Qwen3ForCausalLM": qwen3,
    "Qwen3MoeForCausalLM": qwen3_moe,
    "SeedOssForCausalLM": seed_oss,
    "SmolLM3ForCausalLM": smollm3,
}

NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "alibi": (False,),
    "attention_bias": (False,),
    "attention_chunk_size": (),
    "attention_multiplier": (),
    "attention_out_bias": (False,),
    "attn_logit_softcapping": (),
    "bias": (False,),
    "attn_output_gate": (False,),
    "clip_qkv": (),
    "compression_config": (),
    "dual_chunk_attention_config": (),
    "embedding_multiplier": (1,),
    "final_logit_softcapping": (),
    "layer_types": (),
    "lm_head_bias": (False,),
    "logit_scale": (1,),
    "logits_scaling": (1,),
    "mlp_bias": (False,),
    "mlp_only_layers": ([],),
    "moe_intermediate_size": (),
    "n_routed_experts": (0,),
    "n_shared_experts": (0,),
    "no_bias": (True,),
    "no_rope_layers": (),
    "num_experts": (0,),
    "num_kv_shared_layers": (0,),
    "num_local_experts": (0,),
    "parallel_attn": (False,),
    "partial_rotary_factor": (1,),
    "position_embedding_type": ("rope", "rotary"),
    "qk_layernorm": (False,),
    "qkv_bias": (False,),
    "quantization": (),
    "quantization_config": (),
    "query_pre_attn_scalar": (),
    "residual_multiplier": (1,),
    "rope_interleave": (False,),
    "rope_interleaved": (False,),
    "rope_local_base_freq": (),
    "rotary_pct": (1,),
    "shared_expert_intermediate_size": (0,),
    "shared_intermediate_size": (0,),
    "sliding_window": (),
    "sliding_window_pattern": (),
    "text_config": (),
    "use_bias": (False,),
    "use_bidirectional_attention": (False,),
    "use_mrope": (False,),
    "use_parallel_residual": (False,),
    "use_qk_norm": (False,),
    "use_sliding_window": (False,),
}
"""Fields that change a model's numbers, each with the values that change nothing. A family reads those it has; any
other one must be null or neutral, so that no config is half understood."""


def model_spec(config: Mapping[str, object]) -> ModelSpec:
    """The spec of a config. Raises StartupError for an architecture, a field or a value that is not known, by name."""
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or len(architectures) != 1 or str(architectures[0]) not in FAMILIES:
        raise load_failed(
            f"{CONFIG_FILE}: architectures is {architectures!r:.80}; known ones are {', '.join(sorted(FAMILIES))}"
        )
    fields = Fields(config, CONFIG_FILE)
    if "quantization_config" in fields:
        raise fields.wrong(
            "quantization_config", f"asks for {_method(config)} weights, which this release does not read"
        )
    spec = FAMILIES[architectures[0]](fields)
    fields.refuse_unasked(NEUTRAL, f"which {architectures[0]} is not known to have")
    return spec


def _method(config: Mapping[str, object]) -> str:
    """How they are quantised, as far as it is told."""
    told = config["quantization_config"]
    method = told.get("quant_method") if isinstance(told, dict) else None
    return f"quantised ({method:.40})" if isinstance(method, str) else "quantised"
