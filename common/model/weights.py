"""Weights in safetensors files, single or sharded, inspected before the first byte is used. Door to safetensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from safetensors import SafetensorError, safe_open

from common.model.folder import is_pointer, load_failed, read_json
from common.model.spec import ModelSpec
from common.model.tensor_names import expected_tensors, is_ignorable, plain_name

if TYPE_CHECKING:
    from torch import Tensor

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
OTHER_SUFFIXES = frozenset({".safetensors", ".gguf", ".onnx"})
KNOWN_TYPES = frozenset({"F32", "BF16", "F16"})
MAX_NAMED = 5  # Problems spelled out in one message; the rest is a count.


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """One tensor as its file's header describes it."""

    file: str
    stored_name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFiles:
    """All tensors of a folder by their plain names, and the files that hold them, in order."""

    files: tuple[str, ...]
    tensors: Mapping[str, StoredTensor]


def inspect_weights(folder: Path) -> WeightFiles:
    """Read the headers. Raises StartupError for a missing, truncated or corrupt file, or an index that lies."""
    index = _read_index(folder)
    files = (SINGLE_FILE,) if index is None else tuple(sorted(set(index.values())))
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        for name, tensor in _read_header(folder, file):
            if name in tensors:
                first = f"{tensors[name].stored_name} in {tensors[name].file}"
                raise load_failed(f"{folder.name}: {first} and {tensor.stored_name} in {file} are both {name}")
            tensors[name] = tensor
    if index is not None:
        held = {tensor.stored_name: tensor.file for tensor in tensors.values()}
        misplaced = sorted(name for name, file in index.items() if held.get(name) != file)
        unlisted = sorted(held.keys() - index.keys())
        _raise_problems(
            folder,
            [
                *(f"{name} is not in {index[name]}, where {INDEX_FILE} says" for name in misplaced),
                *(f"{name} is not in {INDEX_FILE}" for name in unlisted),
            ],
        )
    return WeightFiles(files=files, tensors=tensors)


def check_weights(folder: Path, weights: WeightFiles, spec: ModelSpec) -> None:
    """Compare names, shapes and types with what the spec needs. Raises StartupError with every problem counted."""
    expected = expected_tensors(spec)
    problems = [f"{name} {list(shape)} is missing" for name, shape in expected.items() if name not in weights.tensors]
    for name, tensor in weights.tensors.items():
        if name not in expected:
            if not is_ignorable(name, spec):
                problems.append(f"{name} {list(tensor.shape)} is not part of a {spec.architecture} with this config")
        elif tensor.shape != expected[name]:
            problems.append(f"{name} is {list(tensor.shape)}, not {list(expected[name])} as config.json asks")
        elif tensor.dtype not in KNOWN_TYPES:
            problems.append(f"{name} is stored as {tensor.dtype}; known are {', '.join(sorted(KNOWN_TYPES))}")
    _raise_problems(folder, problems)


class WeightReader:
    """Open files from which tensors are read one by one: memory holds what is used, not the file. A context manager."""

    def __init__(self, folder: Path, weights: WeightFiles) -> None:
        self._folder = folder
        self._weights = weights
        self._open: dict[str, Any] = {}  # safetensors has no type for its handles

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._open.values():
            handle.__exit__(kind, error, trace)
        self._open.clear()

    def tensor(self, name: str) -> "Tensor":
        """A tensor in its stored type, on the CPU."""
        stored = self._weights.tensors[name]
        file = stored.file
        if file not in self._open:
            self._open[file] = _open_file(self._folder, file, "pt").__enter__()
        tensor: Tensor = self._open[file].get_tensor(stored.stored_name)
        return tensor


def _read_index(folder: Path) -> dict[str, str] | None:
    """Tensor name -> file, or None for a single file."""
    if not (folder / INDEX_FILE).exists():
        if not (folder / SINGLE_FILE).exists() and (others := _other_weights(folder)):
            raise load_failed(f"{folder.name} has neither {SINGLE_FILE} nor {INDEX_FILE}, but {', '.join(others[:3])}")
        return None
    entries = read_json(folder / INDEX_FILE).get("weight_map")
    if not isinstance(entries, dict) or not entries:
        raise load_failed(f"{folder.name}/{INDEX_FILE} has no weight_map")
    for file in entries.values():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise load_failed(
                f"{folder.name}/{INDEX_FILE} names {file!r:.80}, which is not a safetensors file beside it"
            )
    return entries


def _other_weights(folder: Path) -> list[str]:
    """Shards whose index is missing, or what other programs read."""
    return sorted(file.name for file in folder.iterdir() if file.suffix in OTHER_SUFFIXES)


def _read_header(folder: Path, file: str) -> list[tuple[str, StoredTensor]]:
    with _open_file(folder, file, "numpy") as handle:
        stored = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118  # not a dict
        return [
            (
                plain_name(name),
                StoredTensor(file=file, stored_name=name, shape=tuple(part.get_shape()), dtype=part.get_dtype()),
            )
            for name, part in stored.items()
        ]


def _open_file(folder: Path, file: str, framework: str) -> Any:
    try:
        return safe_open(folder / file, framework=framework)
    except FileNotFoundError:
        raise load_failed(f"{folder.name}/{file} is missing") from None
    except (SafetensorError, OSError) as error:
        if is_pointer(folder / file):
            raise load_failed(f"{folder.name}/{file} only points to the weights: run `git lfs pull` there") from error
        raise load_failed(f"{folder.name}/{file} is truncated or not a safetensors file: {error}") from error


def _raise_problems(folder: Path, problems: list[str]) -> None:
    if problems:
        more = f"; and {len(problems) - MAX_NAMED} more" if len(problems) > MAX_NAMED else ""
        raise load_failed(f"{folder.name}: {'; '.join(problems[:MAX_NAMED])}{more}")
