"""A model folder is checked before it is used: every way in which it can be wrong, then what a good one gives."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common.core.errors import Reason, StartupError
from common.model.description import describe
from common.model.load import load_model
from tests.model.checkpoint import CONFIG, as_half, tensors_for, write_checkpoint, write_json, write_manifest

Q_PROJ = "model.layers.1.self_attn.q_proj.weight"


def without_folder(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"architectures": [', encoding="utf-8")


def list_config(folder: Path) -> None:
    (folder / "config.json").write_text("[]", encoding="utf-8")


def auto_map(folder: Path) -> None:
    write_json(folder / "config.json", {**CONFIG, "auto_map": {"AutoModel": "modeling.Model"}})


def pickled(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def python_file(folder: Path) -> None:
    (folder / "modeling.py").write_text("print('hello')", encoding="utf-8")


def adapter(folder: Path) -> None:
    write_json(folder / "adapter_config.json", {"peft_type": "LORA"})


def endless_context(folder: Path) -> None:
    write_json(folder / "config.json", {**CONFIG, "max_position_embeddings": 10**30})


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def shards_without_index(folder: Path) -> None:
    without_weights(folder)
    (write_checkpoint(folder, num_shards=2) / "model.safetensors.index.json").unlink()


def weights_for_others(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.gguf")


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def corrupt_header(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(b"\xff" * 8 + file.read_bytes()[8:])


def empty_file(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def pointer(folder: Path) -> None:
    """As a clone leaves it where Git's large file storage is not installed."""
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:5e\nsize 99\n")


def pointer_for_config(folder: Path) -> None:
    (folder / "config.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:5e\nsize 99\n")


def missing_tensor(folder: Path) -> None:
    write_checkpoint(folder, tensors={name: t for name, t in tensors_for(CONFIG).items() if name != Q_PROJ})


def extra_tensor(folder: Path) -> None:
    write_checkpoint(folder, tensors={**tensors_for(CONFIG), "model.layers.9.mlp.weight": torch.zeros(3)})


def wrong_shape(folder: Path) -> None:
    write_checkpoint(folder, tensors={**tensors_for(CONFIG), Q_PROJ: torch.zeros(48, 64)})


def integer_tensor(folder: Path) -> None:
    write_checkpoint(folder, tensors={**tensors_for(CONFIG), Q_PROJ: torch.zeros(64, 48, dtype=torch.int32)})


def changed_file(folder: Path) -> None:
    write_manifest(folder)
    write_checkpoint(folder, tensors=tensors_for(CONFIG, seed=1))


def unlisted_weights(folder: Path) -> None:
    write_json(folder / "manifest.json", {"sha256": {}})


def manifest_of_another_folder(folder: Path) -> None:
    write_json(folder / "manifest.json", {"sha256": {"../secret": "00", "config.json": "00"}})


def shard_missing(folder: Path) -> None:
    (write_checkpoint(folder, num_shards=2) / "model-00002-of-00002.safetensors").unlink()


def index_outside(folder: Path) -> None:
    write_json(folder / "model.safetensors.index.json", {"weight_map": {Q_PROJ: "../model.safetensors"}})


def index_wrong(folder: Path) -> None:
    index = json.loads((write_checkpoint(folder, num_shards=2) / "model.safetensors.index.json").read_text())
    index["weight_map"][Q_PROJ] = next(
        file for file in index["weight_map"].values() if file != index["weight_map"][Q_PROJ]
    )
    write_json(folder / "model.safetensors.index.json", index)


WRONGS: list[tuple[Callable[[Path], None], str]] = [
    (without_folder, "does not exist"),
    (without_config, "config.json is missing"),
    (broken_config, "cannot be read"),
    (list_config, "not a JSON object"),
    (auto_map, "auto_map"),
    (pickled, "pytorch_model.bin"),
    (python_file, "modeling.py"),
    (adapter, "holds an adapter"),
    (endless_context, "1 to 2147483647 is possible"),
    (without_weights, "model.safetensors is missing"),
    (shards_without_index, "neither model.safetensors nor model.safetensors.index.json, but model-00001-of-00002"),
    (weights_for_others, "nor model.safetensors.index.json, but model.gguf"),
    (truncated, "truncated"),
    (corrupt_header, "truncated or not"),
    (empty_file, "truncated or not"),
    (pointer, "only points to the weights: run `git lfs pull`"),
    (pointer_for_config, "config.json only points to its contents"),
    (missing_tensor, f"{Q_PROJ} [64, 48] is missing"),
    (extra_tensor, "model.layers.9.mlp.weight [3] is not part"),
    (wrong_shape, f"{Q_PROJ} is [48, 64], not [64, 48]"),
    (integer_tensor, "stored as I32"),
    (changed_file, "model.safetensors has SHA-256"),
    (unlisted_weights, "model.safetensors is not listed"),
    (manifest_of_another_folder, "../secret is not a file of this folder"),
    (shard_missing, "model-00002-of-00002.safetensors is missing"),
    (index_outside, "../model.safetensors"),
    (index_wrong, "where model.safetensors.index.json says"),
]


@pytest.mark.parametrize(("break_it", "said"), WRONGS, ids=[wrong.__name__ for wrong, _ in WRONGS])
def test_a_wrong_folder_is_refused_and_the_message_says_why(
    tmp_path: Path, break_it: Callable[[Path], None], said: str
) -> None:
    folder = write_checkpoint(tmp_path / "model")
    break_it(folder)
    with pytest.raises(StartupError) as caught:
        describe(folder)
    assert caught.value.reason is Reason.MODEL_LOAD_FAILED
    assert said in str(caught.value)


def test_tensors_that_say_nothing_are_ignored(tmp_path: Path) -> None:
    """Old checkpoints store rotary frequencies, and some a head beside tied embeddings."""
    tensors = tensors_for(CONFIG)
    head = tensors["model.embed_tokens.weight"].clone()
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8), "lm_head.weight": head}
    load_model(write_checkpoint(tmp_path, tensors={**tensors, **extra}))


def test_a_head_of_its_own_beside_tied_embeddings_is_refused(tmp_path: Path) -> None:
    """Libraries differ in which of the two they take; whichever it is, somebody would get other answers."""
    head = tensors_for({**CONFIG, "tie_word_embeddings": False}, seed=1)["lm_head.weight"]
    folder = write_checkpoint(tmp_path, tensors={**tensors_for(CONFIG), "lm_head.weight": head})
    with pytest.raises(StartupError, match="tie_word_embeddings"):
        load_model(folder)


def test_what_does_not_fit_into_memory_names_the_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr("common.model.load.Decoder", full)
    with pytest.raises(StartupError, match=r"a context of 512 \(model.max_context\)"):
        load_model(write_checkpoint(tmp_path))


def test_end_tokens_outside_the_vocabulary_end_nothing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, eos_token_id=[1, 99_999])
    assert describe(folder).generation.eos_ids == (1,)


def test_a_manifest_may_be_skipped(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    changed_file(folder)
    assert not describe(folder, verify_manifest=False).has_manifest


def test_a_good_manifest_is_reported(tmp_path: Path) -> None:
    write_manifest(write_checkpoint(tmp_path))
    assert describe(tmp_path).has_manifest


def test_the_digest_names_weights_and_config_and_not_the_folder(tmp_path: Path) -> None:
    digest = describe(write_checkpoint(tmp_path / "a")).digest
    assert digest == describe(write_checkpoint(tmp_path / "b")).digest
    other_weights = write_checkpoint(tmp_path / "c", tensors=tensors_for(CONFIG, seed=1))
    other_config = write_checkpoint(tmp_path / "d", rope_theta=5e5)
    assert len({digest, describe(other_weights).digest, describe(other_config).digest}) == 3


def test_a_description_says_what_a_person_wants_to_know(tmp_path: Path) -> None:
    description = describe(write_checkpoint(tmp_path / "small"))
    assert description.num_parameters == sum(tensor.numel() for tensor in tensors_for(CONFIG).values())
    assert description.stored_dtype == "float32"
    assert "small: LlamaForCausalLM" in description.lines[0]


@pytest.mark.parametrize(
    ("asked", "expected"), [("auto", torch.bfloat16), ("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_a_model_runs_in_the_type_that_was_asked_for(tmp_path: Path, asked: str, expected: torch.dtype) -> None:
    folder = write_checkpoint(tmp_path, tensors=as_half(tensors_for(CONFIG)))
    assert load_model(folder, dtype=asked).decoder.dtype is expected


@pytest.mark.parametrize(("changes", "said"), [({"dtype": "int8"}, "int8"), ({"max_context": 513}, "1 to 512")])
def test_impossible_wishes_are_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(StartupError, match=said):
        load_model(write_checkpoint(tmp_path), **changes)  # type: ignore[arg-type]  # on purpose


def test_the_context_may_be_shortened(tmp_path: Path) -> None:
    assert load_model(write_checkpoint(tmp_path), max_context=100).decoder.max_context == 100
