"""The committed demo folder: whole, described correctly, of the announced shape."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from models.build.folder import read_shape
from models.build.manifest import file_hashes
from models.build.shape import NAMED_SHAPES
from models.build.tokenizer import BEGIN, END, PAD, control_id

DEMO = Path(__file__).parents[2] / "models" / "demo"


@cache
def read(name: str) -> Any:
    """One JSON file of the folder."""
    return json.loads((DEMO / name).read_text(encoding="utf-8"))


def test_the_manifest_names_every_file_with_its_hash() -> None:
    """No file is missing, changed or extra."""
    assert read("manifest.json")["sha256"] == file_hashes(DEMO)


def test_the_folder_is_small_enough_to_be_committed() -> None:
    """At most 30 MB of weights, and nothing that could run code."""
    assert (DEMO / "model.safetensors").stat().st_size <= 30_000_000
    assert {file.suffix for file in DEMO.iterdir()} == {".json", ".safetensors"}


def test_config_tokenizer_and_weights_agree() -> None:
    """The shape in config.json is the named one, the tensors have it, the tokenizer fills the vocabulary."""
    config, shape = read("config.json"), read_shape(DEMO)
    assert shape == NAMED_SHAPES["demo"]
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["torch_dtype"] == "bfloat16"
    tensors = load_file(DEMO / "model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == shape.tensor_shapes()
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == shape.vocab
    for key, token in (("bos_token", BEGIN), ("eos_token", END), ("pad_token", PAD)):
        assert read("tokenizer_config.json")[key] == token
        assert {read(file)[f"{key}_id"] for file in ("config.json", "generation_config.json")} == {
            control_id(tokenizer, token)
        }
