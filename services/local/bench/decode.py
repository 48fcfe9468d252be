"""How fast answers are written: streams that begin together, 64 tokens in and 128 out."""

import asyncio
from dataclasses import dataclass

from services.local.bench.bounds import Bounds, beside
from services.local.bench.spread import spread_figures
from services.local.bench.target import Target, hear
from services.local.bench.workload import Figures, Kit

PROMPT_TOKENS = 64
OUTPUT_TOKENS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSpeed:
    """`tok_s` and `run` count the prompts' time; `steady_tok_s` and `step` only while every stream writes."""

    num_streams: int
    prompt_tokens: int = PROMPT_TOKENS
    output_tokens: int = OUTPUT_TOKENS

    @property
    def name(self) -> str:
        return f"decode_{self.num_streams}"

    async def run(self, target: Target, kit: Kit) -> Figures:
        prompts = [kit.prompts.fresh(self.prompt_tokens) for _ in range(self.num_streams)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(hear(target, prompt, self.output_tokens, kit.clock)) for prompt in prompts]
        streams = [task.result() for task in tasks]
        began, ended = min(each.sent_at for each in streams), max(each.pieces[-1].at for each in streams)
        figures = {"tok_s": sum(each.num_tokens for each in streams) / (ended - began)}
        full_from = max(each.pieces[0].at for each in streams)
        full_to = min(each.pieces[-1].at for each in streams)
        if full_to > full_from:
            tokens = sum(each.tokens_within(full_from, full_to) for each in streams)
            figures["steady_tok_s"] = tokens / (full_to - full_from)
        figures |= spread_figures("itl", [gap for each in streams for gap in each.gaps()])
        figures |= spread_figures("ttft", [each.ttft_s for each in streams])
        return figures if kit.bounds is None else figures | self._shares(kit.bounds, ended - began, figures)

    def _shares(self, bounds: Bounds, taken_s: float, figures: Figures) -> dict[str, float]:
        """Of the whole run, and of a step in the middle of the answers."""
        rows, prompt, output = self.num_streams, self.prompt_tokens, self.output_tokens
        run_s = bounds.prompts_s(prompt, num_prompts=rows) + bounds.answers_s(rows, prompt, output)
        shares = beside("run_", run_s, taken_s)
        if "steady_tok_s" in figures:
            shares |= beside("step_", bounds.step_s(rows, prompt + output // 2), rows / figures["steady_tok_s"])
        return shares
