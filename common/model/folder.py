"""A model folder as it lies on disk: what may be in it, and its JSON files."""

import json
from collections.abc import Mapping
from pathlib import Path

from common.core.errors import Reason, StartupError

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
ADAPTER_FILE = "adapter_config.json"
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
POINTER = b"version https://git-lfs.github.com/"
"""How a file begins in a clone that did not fetch what lies in Git's large file storage."""
MAX_JSON_BYTES = 64 * 2**20  # Chosen: ten times the index of the largest open model; beyond it something is wrong.


def load_failed(message: str) -> StartupError:
    """The error of everything that is wrong with a model folder."""
    return StartupError(message=message, reason=Reason.MODEL_LOAD_FAILED)


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds code or pickles, both of which run what a stranger wrote. Raises StartupError."""
    if folder.is_file():
        raise load_failed(f"model folder {folder} is a file; --model takes the folder with {CONFIG_FILE} in it")
    if not folder.is_dir():
        raise load_failed(f"model folder {folder} does not exist; --model takes a folder with {CONFIG_FILE} in it")
    names = sorted(entry.name for entry in folder.iterdir())
    pickles = [name for name in names if Path(name).suffix in PICKLE_SUFFIXES]
    if pickles:
        raise load_failed(
            f"{folder.name} holds pickled files, which can run code: {', '.join(pickles)}; "
            "remove them and keep (or convert to) model.safetensors"
        )
    if ADAPTER_FILE in names:
        raise load_failed(f"{folder.name} holds an adapter ({ADAPTER_FILE}): merge it into its model, or remove it")
    programs = [name for name in names if name.endswith((".py", ".pyc", ".so"))]
    if programs:
        raise load_failed(f"{folder.name} holds programs, which Baton never runs: {', '.join(programs)}; remove them")


def is_pointer(file: Path) -> bool:
    """Whether there is only a note on where the contents are."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(len(POINTER)) == POINTER


def read_config(folder: Path) -> Mapping[str, object]:
    """config.json. Raises StartupError when it asks for code of its own."""
    config = read_json(folder / CONFIG_FILE)
    if "auto_map" in config:
        raise load_failed(f"{folder.name}/{CONFIG_FILE} has auto_map: it asks for code of its own, which is never run")
    return config


def read_generation_config(folder: Path) -> Mapping[str, object]:
    """generation_config.json, empty when there is none."""
    path = folder / GENERATION_FILE
    return read_json(path) if path.exists() else {}


def read_json(path: Path) -> Mapping[str, object]:
    """One JSON object. Raises StartupError when it is missing, too large, or something else."""
    name = f"{path.parent.name}/{path.name}"
    try:
        if is_pointer(path):
            raise load_failed(f"{name} only points to its contents: run `git lfs pull` there")
        if path.stat().st_size > MAX_JSON_BYTES:
            raise load_failed(f"{name} is larger than {MAX_JSON_BYTES} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise load_failed(f"{name} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise load_failed(f"{name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise load_failed(f"{name} is not a JSON object")
    return content
