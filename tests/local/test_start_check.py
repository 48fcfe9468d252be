"""What cannot work is said before any process starts."""

from pathlib import Path

import pytest

from common.config.loader import load
from common.core.errors import StartupError
from services.local import start_check
from services.local.start_check import check_start
from tests.model.checkpoint import CONFIG, tensors_for, write_checkpoint, write_json, write_manifest


def test_the_demo_model_passes() -> None:
    check_start(load(None, {}, ()))


def test_without_torch_the_command_to_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_check, "find_spec", lambda _name: None)
    with pytest.raises(StartupError, match=r"pip install 'baton\[worker\]'"):
        check_start(load(None, {}, ()))


def test_an_installation_without_the_demo_model_says_where_it_looked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(start_check, "ROOT", tmp_path)
    with pytest.raises(StartupError, match=f"{tmp_path}/models/demo: it comes with a checkout"):
        check_start(load(None, {}, ()))


@pytest.mark.parametrize(
    ("config", "said"),
    [(None, "is a file"), ("{", "cannot be read"), ('{"architectures": ["RwkvForCausalLM"]}', "known ones are")],
)
def test_a_model_of_no_known_kind_is_refused_by_its_config(tmp_path: Path, config: str | None, said: str) -> None:
    folder = tmp_path / "model"
    if config is None:
        folder.write_text("")
    else:
        folder.mkdir()
        (folder / "config.json").write_text(config)
    with pytest.raises(StartupError, match=said):
        check_start(load(None, {}, (f"model.path={folder}",)))


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("tokenizer.json", r"model.safetensors is missing"),
        ("model.gguf", r"neither model.safetensors nor model.safetensors.index.json, but model.gguf"),
        ("model.safetensors", r"truncated or not a safetensors file"),
    ],
)
def test_weights_that_no_worker_can_read_are_refused_before_one_starts(tmp_path: Path, held: str, said: str) -> None:
    (write_checkpoint(tmp_path) / "model.safetensors").unlink()
    (tmp_path / held).write_text("{}")
    with pytest.raises(StartupError, match=said):
        check_start(load(None, {}, (f"model.path={tmp_path}",)))


def test_weights_of_another_model_are_refused_before_a_worker_starts(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tensors=tensors_for({**CONFIG, "hidden_size": 64}))
    with pytest.raises(StartupError, match=r"\[300, 64\], not \[300, 48\] as config.json asks"):
        check_start(load(None, {}, (f"model.path={tmp_path}",)))


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ((), r"tokenizer.json: is missing in .*: copy it from where the model came from"),
        (("vocab.json", "merges.txt"), r"vocab.json is not read. transformers can write it"),
        (("tokenizer.model", "tekken.json"), r"tokenizer.model, tekken.json is not read. transformers can write it"),
    ],
)
def test_a_folder_without_a_tokenizer_is_refused_and_told_what_to_do(
    tmp_path: Path, held: tuple[str, ...], said: str
) -> None:
    for name in held:
        (write_checkpoint(tmp_path) / name).write_text("{}")
    with pytest.raises(StartupError, match=said):
        check_start(load(None, {}, (f"model.path={write_checkpoint(tmp_path)}",)))


def test_a_folder_that_is_not_what_its_manifest_says_is_refused_before_any_worker_reads_it(tmp_path: Path) -> None:
    """Each worker would load, refuse and be started again: minutes on a busy machine."""
    folder = write_checkpoint(tmp_path)
    write_json(folder / "tokenizer.json", {})
    write_json(folder / "tokenizer_config.json", {})
    write_manifest(folder)
    check_start(load(None, {}, (f"model.path={folder}",)))
    write_json(folder / "tokenizer_config.json", {"chat_template": "edited"})
    with pytest.raises(StartupError, match=r"not what its manifest says: tokenizer_config\.json has SHA-256"):
        check_start(load(None, {}, (f"model.path={folder}",)))
    for setting in ("model.verify_manifest=false", "engine.executor=sim"):
        check_start(load(None, {}, (f"model.path={folder}", setting)))
