"""The other implementation's side. A script: it may import nothing from this repository.

    python -I reference.py JOBS.json OUT.safetensors

JOBS is a list of {name, folder, prompts, num_tokens}. OUT holds, per prompt, `name/i/logits` (length, vocabulary) of
the prompt and `name/i/tokens`, `num_tokens` greedy tokens after it, with the library's own cache, in fp32, by the
library's plain operators. Prompts of one length run together, so that none is padded.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

NOT_HERE = ("kernels", "common", "services", "protos")
for name in NOT_HERE:
    sys.modules[name] = None  # type: ignore[assignment]  # an import of this name fails from here on

from transformers import AutoModelForCausalLM, PreTrainedModel  # noqa: E402  # it looks for a distribution named kernels while it is imported


def run_prompts(model: PreTrainedModel, prompts: list[list[int]], num_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of prompts of one length and the greedy tokens after them, a row each."""
    answer = model(input_ids=torch.tensor(prompts), use_cache=True)
    logits = answer.logits
    tokens = torch.empty(len(prompts), 0, dtype=torch.int64)
    while tokens.shape[1] < num_tokens:
        newest = answer.logits[:, -1].argmax(dim=-1, keepdim=True)
        tokens = torch.cat((tokens, newest), dim=1)
        if tokens.shape[1] < num_tokens:
            answer = model(input_ids=newest, past_key_values=answer.past_key_values, use_cache=True)
    return logits, tokens


def main() -> None:
    torch.set_num_threads(1)
    results: dict[str, torch.Tensor] = {}
    for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        model = AutoModelForCausalLM.from_pretrained(job["folder"], dtype=torch.float32, attn_implementation="eager")
        for length in {len(prompt) for prompt in job["prompts"]}:
            own = [index for index, prompt in enumerate(job["prompts"]) if len(prompt) == length]
            with torch.inference_mode():
                logits, tokens = run_prompts(model, [job["prompts"][index] for index in own], job["num_tokens"])
            for row, index in enumerate(own):
                results[f"{job['name']}/{index}/logits"] = logits[row].clone()
                results[f"{job['name']}/{index}/tokens"] = tokens[row].clone()
    save_file(results, sys.argv[2])


if __name__ == "__main__":
    main()
