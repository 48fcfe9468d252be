"""The manifest of a model folder: the SHA-256 of every file, how the model was made and how good it is."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutLoss:
    """Cross-entropy on files that were never trained on, in nats."""

    per_token: float
    per_byte: float
    tokens: int
    bytes: int
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """How a folder came to be; enough to make it again."""

    command: str
    seed: int
    python: str
    torch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a training run spent, and where."""

    steps: int
    tokens_seen: int
    wall_s: int
    machine: str


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 in hexadecimal of every file in the folder but the manifest itself, by name."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != MANIFEST_FILE)
    return {file.name: _sha256(file) for file in files}


def write_manifest(
    folder: Path, origin: Origin, *, training: Training | None = None, held_out: HeldOutLoss | None = None
) -> None:
    """Hash the folder as it is now and write manifest.json beside the files; random weights have no training."""
    content: dict[str, object] = {"sha256": file_hashes(folder), "origin": asdict(origin)}
    if training is not None:
        content["training"] = asdict(training)
    if held_out is not None:
        content["held_out"] = asdict(held_out)
    (folder / MANIFEST_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
