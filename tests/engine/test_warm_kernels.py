"""A cache of compiled kernels that was filled without a GPU: found from wherever it lies, and complete."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 192,
    "vocab_size": 4096,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
}

SERVE = """
import json, sys
from pathlib import Path
import torch
from kernels.gpu import warm_cache
warm_cache.FOLDER = Path(sys.argv[1])
from common.core.ids import TokenId
from common.core.request import TokenSampling
from common.engine import warm_kernels
from common.model.families.registry import model_spec
from kernels.gpu.compile_only import compile_only
# Other batches, other tokens, more layers than the cache was filled with.
warm_kernels.BATCHES = (((40, 1),) * 7, ((0, 250), (16, 17), (1999, 1)), ((5, 2),))
warm_kernels.SAMPLINGS = (TokenSampling(temperature=0.3, top_k=7), TokenSampling(temperature=1.2, top_p=0.5))
warm_kernels.NUM_TOP = (0, 2, 3, 5, 11)
spec = model_spec({**json.loads(Path(sys.argv[2]).read_text()), "num_hidden_layers": 32})
with torch.inference_mode(), compile_only(90) as tally:
    warm_kernels.warm(spec, dtype=torch.bfloat16, kv_dtype="bfloat16", page_size=16)
print(json.dumps({"compiled": tally.compiled, "found": len(tally.found)}))
"""


@pytest.mark.timeout(300)
def test_a_cache_that_was_moved_is_all_that_other_batches_need(tmp_path: Path) -> None:
    """Two processes: one fills a folder, one reads it elsewhere and counts what it had to compile itself."""
    config, filled, moved, own = (tmp_path / name for name in ("config.json", "filled", "moved", "own"))
    config.write_text(json.dumps(CONFIG))
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}

    def run(*arguments: str, **more: str) -> str:
        made = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**environment, **more},
            check=False,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        return made.stdout

    said = run("-m", "common.engine.warm_kernels", "--cache", str(filled), "--arch", "90", str(config))
    assert " 0 kernels compiled" not in said
    assert ("the launcher is there" in said) == bool(list(filled.glob("*/cuda_utils*.so")))
    shutil.move(filled, moved)
    cache = {"TRITON_CACHE_MANAGER": "kernels.gpu.warm_cache:WarmCache", "TRITON_CACHE_DIR": str(own)}
    found = json.loads(run("-c", SERVE, str(moved), str(config), **cache))
    assert found["compiled"] == []
    assert found["found"] > 15
