"""The manifest of a model folder: the SHA-256 of every file, so that a changed file is an error, not a worse answer."""

import hashlib
from collections.abc import Collection
from pathlib import Path

from common.model.folder import load_failed, read_json

MANIFEST_FILE = "manifest.json"
MAX_HASHED_BYTES = 2 * 2**30  # Chosen: about 2 s of hashing at start; larger files are listed and counted, not read.


def check_manifest(folder: Path, *, needed: Collection[str], max_hashed_bytes: int = MAX_HASHED_BYTES) -> bool:
    """Compare a folder with its manifest, if it has one. `needed` are the files that will be read: all must be listed.

    True when there was a manifest. Raises StartupError naming every file that differs, is missing or is not listed.
    """
    path = folder / MANIFEST_FILE
    if not path.exists():
        return False
    listed = read_json(path).get("sha256")
    if not isinstance(listed, dict) or not all(isinstance(value, str) for value in listed.values()):
        raise load_failed(f"{folder.name}/{MANIFEST_FILE} has no table sha256 of file names and hashes")
    problems = [f"{name} is not listed" for name in sorted(set(needed) - set(listed))]
    for name, expected in sorted(listed.items()):
        problem = _problem(folder, name, expected, max_hashed_bytes)
        if problem:
            problems.append(problem)
    if problems:
        raise load_failed(f"{folder.name} is not what its manifest says: {'; '.join(problems)}; fetch the model again")
    return True


def _problem(folder: Path, name: str, expected: str, max_hashed_bytes: int) -> str:
    if Path(name).name != name:
        return f"{name} is not a file of this folder"
    file = folder / name
    if not file.is_file():
        return f"{name} is missing"
    if file.stat().st_size > max_hashed_bytes:
        return ""
    with file.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    return "" if actual == expected.lower() else f"{name} has SHA-256 {actual[:12]}..., listed is {expected[:12]}..."
