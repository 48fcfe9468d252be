"""What is compared: which models, which prompts; and the other implementation's answers."""

import fcntl
import hashlib
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from tests.model.checkpoint import write_checkpoint
from tests.oracle.families import VOCAB, lengths, write_family

SCRIPT = Path(__file__).with_name("reference.py")
DEMO = Path(__file__).parents[2] / "models" / "demo"
PAGE_SIZE = 16
KEPT = Path(__file__).parents[2] / "build" / "oracle"
"""Of later runs too: what was computed from the same files by the same versions."""
TIMEOUT_S = 400
NUM_PROMPTS = 20

GREEDY_LENGTHS = [1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 16, 48, 63, 64, 65, 100, 250, 512, 700]
"""Twenty prompts, around page borders: 1, page - 1, page, page + 1, 3 pages, and some longer ones."""

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
VARIANTS: dict[str, dict[str, object]] = {
    "tied": {},
    "untied": {"tie_word_embeddings": False},
    "sharded": {"tie_word_embeddings": False, "num_shards": 3},
    "llama3": {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 64}, "rope_theta": 500_000.0},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "rope_parameters": {
        "rope_theta": None,
        "rope_parameters": {**LLAMA3, "rope_theta": 500_000.0, "original_max_position_embeddings": 64},
    },
    "one_head_each": {"num_key_value_heads": 4},
    "one_shared_head": {"num_key_value_heads": 1},
    "three_per_head": {"num_attention_heads": 6},
    "wide_heads": {"head_dim": 80},
    "default_head_dim": {"head_dim": None, "hidden_size": 64},
    "attention_bias": {"attention_bias": True},
    "mlp_bias": {"mlp_bias": True},
    "dynamic": {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}},
    "yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64}},
    "yarn_mscale": {
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 64,
            "beta_fast": 16,
            "beta_slow": 2,
            "mscale": 0.7,
            "mscale_all_dim": 1.3,
            "truncate": False,
        }
    },
    "gelu": {"hidden_act": "gelu"},
    "gelu_tanh": {"hidden_act": "gelu_pytorch_tanh"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One model and its prompts. `num_tokens` greedy tokens follow each prompt."""

    name: str
    folder: str
    prompts: tuple[tuple[int, ...], ...]
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the other implementation computed."""

    jobs: dict[str, Job]
    tensors: dict[str, Tensor]

    def logits(self, name: str, prompt: int) -> Tensor:
        return self.tensors[f"{name}/{prompt}/logits"]

    def tokens(self, name: str, prompt: int) -> list[int]:
        return self.tensors[f"{name}/{prompt}/tokens"].tolist()


def demo_prompts() -> tuple[tuple[int, ...], ...]:
    """Pieces of the standard library's source, cut to GREEDY_LENGTHS tokens."""
    source = Path(json.__file__).with_name("decoder.py").read_text(encoding="utf-8")
    tokens = Tokenizer.from_file(str(DEMO / "tokenizer.json")).encode(source, add_special_tokens=False).ids
    starts = random.Random(11)
    firsts = [starts.randrange(len(tokens) - length) for length in GREEDY_LENGTHS]
    return tuple(tuple(tokens[first : first + length]) for first, length in zip(firsts, GREEDY_LENGTHS, strict=True))


def demo_job() -> dict[str, Job]:
    """The demo model with greedy tokens."""
    return {"demo": Job(name="demo", folder=str(DEMO), prompts=demo_prompts(), num_tokens=64)}


def llama_jobs(folder: Path) -> dict[str, Job]:
    """The demo model, and random ones of every kind with logits only. Writes the latter."""
    jobs = demo_job()
    for name, changes in VARIANTS.items():
        path = write_checkpoint(folder / name, **changes)  # type: ignore[arg-type]  # changes of the config
        words = random.Random(name)
        prompts = tuple(tuple(words.choices(range(300), k=length)) for length in (1, 17, 200))
        jobs[name] = Job(name=name, folder=str(path), prompts=prompts, num_tokens=0)
    return jobs


def family_jobs(folder: Path, names: Iterable[str]) -> dict[str, Job]:
    """A random model of each family with greedy tokens. Writes them."""
    jobs: dict[str, Job] = {}
    for name in names:
        words = random.Random(name)
        sizes = [length for length in lengths(name) for _ in range(NUM_PROMPTS // len(lengths(name)))]
        prompts = tuple(tuple(words.choices(range(VOCAB), k=length)) for length in sizes)
        path = write_family(folder / name, name)
        jobs[name] = Job(name=name, folder=str(path), prompts=prompts, num_tokens=64)
    return jobs


def ask_reference(folder: Path, jobs: dict[str, Job]) -> Answers:
    """What the other implementation says to the jobs: asked once per script, model and versions, and kept."""
    kept = {name: KEPT / f"{name}-{_digest(job)}.safetensors" for name, job in jobs.items()}
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{next(iter(jobs))}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # bounded: whoever holds it asks for TIMEOUT_S at most
        missing = {name: job for name, job in jobs.items() if not kept[name].exists()}
        tensors = _run_reference(folder, missing) if missing else {}
        for name in missing:
            _keep(kept[name], {key: tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")})
    known = [load_file(file) for file in kept.values()]
    return Answers(jobs=jobs, tensors={key: tensor for each in known for key, tensor in each.items()})


def _run_reference(folder: Path, jobs: dict[str, Job]) -> dict[str, Tensor]:
    """In a process that cannot see this repository."""
    question, answer = folder / "jobs.json", folder / "answers.safetensors"
    question.write_text(json.dumps([asdict(job) for job in jobs.values()]), encoding="utf-8")
    command = [sys.executable, "-I", str(SCRIPT), str(question), str(answer)]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert finished.returncode == 0, finished.stderr[-4000:]
    return load_file(answer)


def _digest(job: Job) -> str:
    """Of all that an answer depends on."""
    versions = [sys.version, *(version(name) for name in ("torch", "transformers"))]
    asked = json.dumps([versions, job.prompts, job.num_tokens])
    found = hashlib.blake2b(asked.encode() + SCRIPT.read_bytes(), digest_size=16)
    for file in sorted(Path(job.folder).iterdir()):
        found.update(file.name.encode() + hashlib.blake2b(file.read_bytes()).digest())
    return found.hexdigest()


def _keep(file: Path, tensors: dict[str, Tensor]) -> None:
    """In place of what was kept under this name; whoever is interrupted leaves nothing that looks whole."""
    for old in file.parent.glob(f"{file.name.partition('-')[0]}-*"):
        old.unlink(missing_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as made:
        save_file(tensors, made.name)
    Path(made.name).replace(file)
