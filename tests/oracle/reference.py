"""The other implementation's side. A script: it may import nothing from this repository.

    python -I reference.py JOBS.json OUT.safetensors

JOBS is a list of {name, folder, prompts, num_tokens}. OUT holds, per prompt, `name/i/logits` (length, vocabulary) of
the prompt and `name/i/tokens`, `num_tokens` greedy tokens after it, alone, with the library's own cache, in fp32.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

NOT_HERE = ("kernels", "common", "services", "protos")
for name in NOT_HERE:
    sys.modules[name] = None  # type: ignore[assignment]  # an import of this name fails from here on

from transformers import LlamaForCausalLM  # noqa: E402  # it looks for a distribution named kernels while it is imported


def run_prompt(model: LlamaForCausalLM, prompt: list[int], num_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the prompt and the greedy tokens after it."""
    answer = model(input_ids=torch.tensor([prompt]), use_cache=True)
    logits = answer.logits[0]
    tokens: list[int] = []
    while len(tokens) < num_tokens:
        tokens.append(int(answer.logits[0, -1].argmax()))
        if len(tokens) < num_tokens:
            answer = model(
                input_ids=torch.tensor([tokens[-1:]]), past_key_values=answer.past_key_values, use_cache=True
            )
    return logits, torch.tensor(tokens, dtype=torch.int64)


def main() -> None:
    torch.set_num_threads(1)
    results: dict[str, torch.Tensor] = {}
    for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        model = LlamaForCausalLM.from_pretrained(job["folder"], dtype=torch.float32)
        for index, prompt in enumerate(job["prompts"]):
            with torch.inference_mode():
                logits, tokens = run_prompt(model, prompt, job["num_tokens"])
            results[f"{job['name']}/{index}/logits"] = logits.clone()
            results[f"{job['name']}/{index}/tokens"] = tokens
    save_file(results, sys.argv[2])


if __name__ == "__main__":
    main()
