"""Small random checkpoints in the Hugging Face format, with any config, for tests that break or compare them."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from common.model.families.registry import model_spec
from common.model.tensor_names import expected_tensors
from models.build.manifest import file_hashes
from models.build.random_weights import random_tensor

CONFIG: Mapping[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 80,
    "hidden_act": "silu",
    "vocab_size": 300,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": True,
    "eos_token_id": 1,
}


def tensors_for(config: Mapping[str, object], seed: int = 0) -> dict[str, Tensor]:
    """Random weights of everything the config asks for."""
    return {name: random_tensor(name, shape, seed=seed) for name, shape in expected_tensors(model_spec(config)).items()}


def write_checkpoint(
    folder: Path, *, tensors: Mapping[str, Tensor] | None = None, num_shards: int = 1, **changes: object
) -> Path:
    """A folder with CONFIG and `changes` to it (None removes a key); weights are random unless given."""
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    held = dict(tensors_for(config) if tensors is None else tensors)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    if num_shards == 1:
        save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    weight_map = {}
    for number in range(num_shards):
        file = f"model-{number + 1:05d}-of-{num_shards:05d}.safetensors"
        shard = {name: held[name] for name in sorted(held)[number::num_shards]}
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, file))
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": sum(t.nbytes for t in held.values())}, "weight_map": weight_map},
    )
    return folder


def write_manifest(folder: Path) -> None:
    write_json(folder / "manifest.json", {"sha256": file_hashes(folder)})


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def as_half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
