"""The Hugging Face folder of a model: config.json, generation_config.json, weights and tokenizer files."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from models.build.shape import ModelShape, WeightType
from models.build.tokenizer import BEGIN, END, PAD, control_id, write_tokenizer

TORCH_TYPES = {WeightType.BF16: torch.bfloat16, WeightType.FP32: torch.float32}
SINGLE_FILE = "model.safetensors"
MAX_SHARD_BYTES = 2_000_000_000


def config_json(shape: ModelShape, weight_type: WeightType, tokenizer: Tokenizer) -> dict[str, object]:
    """The content of config.json."""
    config: dict[str, object] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": weight_type.value,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate,
        "hidden_act": "silu",
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.max_positions,
        "rope_theta": shape.rope_theta,
        "rope_scaling": None,
        "rms_norm_eps": shape.norm_eps,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": shape.is_tied,
        "bos_token_id": control_id(tokenizer, BEGIN),
        "eos_token_id": control_id(tokenizer, END),
        "pad_token_id": control_id(tokenizer, PAD),
        "use_cache": True,
    }
    if shape.rope_scaling is not None:
        config["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": shape.rope_scaling.factor,
            "low_freq_factor": shape.rope_scaling.low_freq_factor,
            "high_freq_factor": shape.rope_scaling.high_freq_factor,
            "original_max_position_embeddings": shape.rope_scaling.original_max_positions,
        }
    return config


def write_description(folder: Path, shape: ModelShape, weight_type: WeightType, tokenizer: Tokenizer) -> None:
    """Write everything but the weights; creates the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    generation = {
        "bos_token_id": control_id(tokenizer, BEGIN),
        "eos_token_id": control_id(tokenizer, END),
        "pad_token_id": control_id(tokenizer, PAD),
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.95,
    }
    _write_json(folder / "config.json", config_json(shape, weight_type, tokenizer))
    _write_json(folder / "generation_config.json", generation)
    write_tokenizer(tokenizer, folder, max_positions=shape.max_positions)


def write_weights(folder: Path, tensors: dict[str, Tensor], weight_type: WeightType) -> None:
    """Write one safetensors file; tensors are converted to `weight_type`."""
    converted = {name: tensor.to("cpu", TORCH_TYPES[weight_type]).contiguous() for name, tensor in tensors.items()}
    save_file(converted, folder / SINGLE_FILE, metadata={"format": "pt"})


def plan_shards(shape: ModelShape, weight_type: WeightType, *, max_shard_bytes: int) -> tuple[tuple[str, ...], ...]:
    """Names of the tensors of each file, in order, so that a file holds at most `max_shard_bytes`.

    A tensor larger than that gets a file of its own.
    """
    plan: list[list[str]] = [[]]
    shard_bytes = 0
    for name, dims in shape.tensor_shapes().items():
        tensor_bytes = math.prod(dims) * TORCH_TYPES[weight_type].itemsize
        if plan[-1] and shard_bytes + tensor_bytes > max_shard_bytes:
            plan.append([])
            shard_bytes = 0
        plan[-1].append(name)
        shard_bytes += tensor_bytes
    return tuple(tuple(names) for names in plan)


def write_shards(folder: Path, plan: tuple[tuple[str, ...], ...], make_tensor: Callable[[str], Tensor]) -> None:
    """Write the planned files and their index, holding one shard in memory at a time."""
    weight_map: dict[str, str] = {}
    total_bytes = 0
    for number, names in enumerate(plan, start=1):
        file_name = f"model-{number:05d}-of-{len(plan):05d}.safetensors"
        shard = {name: make_tensor(name) for name in names}
        save_file(shard, folder / file_name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file_name)
        total_bytes += sum(tensor.nbytes for tensor in shard.values())
    index = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
    _write_json(folder / "model.safetensors.index.json", index)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Tensors of a single-file folder, as stored."""
    tensors: dict[str, Tensor] = load_file(folder / SINGLE_FILE)
    return tensors


def read_shape(folder: Path) -> ModelShape:
    """Shape of a folder this room wrote, from its config.json (without rope scaling)."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return ModelShape(
        hidden=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        num_kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        intermediate=config["intermediate_size"],
        vocab=config["vocab_size"],
        max_positions=config["max_position_embeddings"],
        rope_theta=config["rope_theta"],
        norm_eps=config["rms_norm_eps"],
        is_tied=config["tie_word_embeddings"],
    )


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
