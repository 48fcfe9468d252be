"""A tiny random model of every family, made so that each of its peculiarities changes the answer.

Windows are shorter than the prompts, caps are low, every kind of layer occurs, head dims go from 16 to 256.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from models.build.tokenizer import synthetic_tokenizer, write_tokenizer
from tests.model.checkpoint import CONFIG, tensors_for, write_json

Config = Mapping[str, object]

VOCAB, MAX_POSITIONS = 512, 1024
LENGTHS = (5, 100)
LONG_LENGTHS = (130, 200)
"""Beyond the original context of LONG: the long factors hold from the first token on."""

SHARED: Config = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "head_dim": 64,
    "intermediate_size": 96,
    "vocab_size": VOCAB,
    "max_position_embeddings": MAX_POSITIONS,
    "pad_token_id": 2,
    "bos_token_id": 0,
}
LONG: Config = {
    "rope_type": "longrope",
    "short_factor": [1.0 + 0.05 * pair for pair in range(24)],
    "long_factor": [1.5 + 0.5 * pair for pair in range(24)],
}
GEMMA: Config = {
    "hidden_act": None,
    "hidden_activation": "gelu_pytorch_tanh",
    "head_dim": 256,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 100,
    "sliding_window": 20,
}
PHI3: Config = {
    "head_dim": None,
    "hidden_size": 192,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "partial_rotary_factor": 0.5,
    "original_max_position_embeddings": 128,
    "rope_scaling": LONG,
    "sliding_window": 40,
}
EXPERTS: Config = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 48}

FAMILIES: Mapping[str, tuple[str, str, Config]] = {
    "mistral": ("MistralForCausalLM", "mistral", {"head_dim": 80, "sliding_window": 24}),
    "ministral": (
        "MinistralForCausalLM",
        "ministral",
        {"sliding_window": 20, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "qwen2": (
        "Qwen2ForCausalLM",
        "qwen2",
        {"head_dim": None, "use_sliding_window": True, "sliding_window": 32, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3ForCausalLM", "qwen3", {"head_dim": 128}),
    "gemma2": (
        "Gemma2ForCausalLM",
        "gemma2",
        {**GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    ),
    "gemma3": (
        "Gemma3ForCausalLM",
        "gemma3_text",
        {
            **GEMMA,
            "num_hidden_layers": 6,
            "sliding_window_pattern": 3,
            "rope_theta": 1_000_000.0,
            "rope_local_base_freq": 5_000.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    "phi3": ("Phi3ForCausalLM", "phi3", PHI3),
    "phi3_short": ("Phi3ForCausalLM", "phi3", PHI3),
    "mixtral": (
        "MixtralForCausalLM",
        "mixtral",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    ),
    "qwen3_moe": (
        "Qwen3MoeForCausalLM",
        "qwen3_moe",
        {**EXPERTS, "head_dim": 128, "norm_topk_prob": True, "mlp_only_layers": [1]},
    ),
    "qwen2_moe": ("Qwen2MoeForCausalLM", "qwen2_moe", {**EXPERTS, "shared_expert_intermediate_size": 64}),
    "gemma": ("GemmaForCausalLM", "gemma", {"hidden_act": "gelu", "head_dim": 256, "num_attention_heads": 2}),
    "olmo2": ("Olmo2ForCausalLM", "olmo2", {"head_dim": None}),
    "olmo3": (
        "Olmo3ForCausalLM",
        "olmo3",
        {"head_dim": None, "num_hidden_layers": 4, "sliding_window": 24, "rope_theta": 5e5},
    ),
    "olmoe": ("OlmoeForCausalLM", "olmoe", {"head_dim": None, "num_experts": 4, "num_experts_per_tok": 2}),
    "exaone4": (
        "Exaone4ForCausalLM",
        "exaone4",
        {"head_dim": None, "num_hidden_layers": 4, "sliding_window": 24, "sliding_window_pattern": 2},
    ),
    "seed_oss": ("SeedOssForCausalLM", "seed_oss", {"attention_out_bias": True}),
    "granite": (
        "GraniteForCausalLM",
        "granite",
        {
            "head_dim": None,
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.3,
            "logits_scaling": 0.5,
        },
    ),
    "smollm3": ("SmolLM3ForCausalLM", "smollm3", {"head_dim": None, "no_rope_layer_interval": 2}),
}
MAX_CONTEXT: Mapping[str, int] = {"phi3_short": 128}
"""Where a family is served with a shorter context than its own: up to the original one short factors hold."""
THROUGH_THE_CLUSTER = ("qwen3", "gemma3", "mixtral")
"""Three families with different structures; the others go through a cluster in the long run."""


def lengths(name: str) -> tuple[int, ...]:
    """Lengths of a family's prompts. With the 64 tokens that follow, they stay within its context."""
    if name in MAX_CONTEXT:
        return (1, 60)
    return LONG_LENGTHS if "rope_scaling" in FAMILIES[name][2] and name == "phi3" else LENGTHS


def write_family(folder: Path, name: str, dtype: torch.dtype = torch.float32) -> Path:
    """The folder of a family's model, with a tokenizer, as a cluster wants it."""
    architecture, kind, changes = FAMILIES[name]
    config = {**CONFIG, **SHARED, "architectures": [architecture], "model_type": kind, **changes}
    config = {key: value for key, value in config.items() if value is not None or key == "sliding_window"}
    tensors = tensors_for(config)
    if str(config["model_type"]).startswith("gemma"):  # whose norms multiply by weight + 1.
        tensors = {key: tensor - 1.0 if tensor.dim() == 1 else tensor for key, tensor in tensors.items()}
    tensors = {key: tensor.to(dtype) for key, tensor in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(synthetic_tokenizer(vocab=VOCAB), folder, max_positions=MAX_POSITIONS)
    return folder
