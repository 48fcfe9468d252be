"""What long prompts do to running answers, and running answers to long prompts: the reason to read and write apart.

Three parts in one sample, so that their ratios are of the same minutes:
quiet (streams alone), alone (arrivals with nobody else), disturbed (both).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.local.bench.bounds import Bounds, beside
from services.local.bench.limits import DEFAULT_LIMITS, Limits
from services.local.bench.spread import MS, spread_figures
from services.local.bench.target import Heard, Target, hear, listen
from services.local.bench.workload import Figures, Kit

STREAM_PROMPT_TOKENS = 64
SETTLE_S = 2.0
"""Chosen: the streams' own prompts are read by then."""

MAX_STREAM_TOKENS = 8_000
"""Chosen: more than a minute of writing, and below what contexts of 8,192 hold."""

PATIENCE_S = 60.0
"""Chosen: an arrival that has not ended so long after the window counts as unanswered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interference:
    """`num_streams` answers that go on, and every `every_s` a prompt of `arrival_tokens` that wants 32 tokens."""

    arrival_tokens: int
    every_s: float
    window_s: float = 60.0
    num_streams: int = 8
    arrival_output: int = 32
    num_alone: int = 8
    limits: Limits = DEFAULT_LIMITS

    @property
    def name(self) -> str:
        return f"interference_{self.arrival_tokens}_every_{self.every_s:g}s"

    async def run(self, target: Target, kit: Kit) -> Figures:
        alone = [
            await hear(target, kit.prompts.fresh(self.arrival_tokens), self.arrival_output, kit.clock)
            for _ in range(self.num_alone)
        ]
        async with steady_streams(target, kit, self.num_streams) as streams:
            began = kit.clock.monotonic()
            await asyncio.sleep(self.window_s)
            quiet = [gap for each in streams for gap in each.gaps(began, began + self.window_s)]
            quiet_rate = sum(each.tokens_within(began, began + self.window_s) for each in streams) / self.window_s
            written = sum(each.tokens_within(0.0, began + self.window_s / 2) for each in streams) / self.num_streams
        async with steady_streams(target, kit, self.num_streams) as streams:
            began = kit.clock.monotonic()
            arrivals = await self._arrivals(target, kit)
            end = began + self.window_s
        rate = sum(each.tokens_within(began, end) for each in streams) / self.window_s
        figures = {
            **spread_figures("quiet_itl", quiet),
            **spread_figures("itl", [gap for each in streams for gap in each.gaps(began, end)]),
            **spread_figures("alone_ttft", [each.ttft_s for each in alone]),
            **spread_figures("ttft", [each.ttft_s for each in arrivals if each.pieces]),
            **spread_figures("arrival_itl", [gap for each in arrivals for gap in each.gaps()]),
            "quiet_tok_s": quiet_rate,
            "tok_s": rate,
            "rate_left": rate / quiet_rate,
            "arrivals": float(len(arrivals)),
            "arrivals_unfinished": float(sum(each.num_tokens < self.arrival_output for each in arrivals)),
            **self.limits.goodput(streams, arrivals, began, end),
        }
        shares = {} if kit.bounds is None else self._shares(kit.bounds, figures, int(written))
        return {**figures, **_ratios(figures), **shares}

    def _shares(self, bounds: Bounds, figures: Figures, written: int) -> Figures:
        """Of a step of the undisturbed streams, `written` tokens after their prompts, and of an arrival alone."""
        step_s = bounds.step_s(self.num_streams, STREAM_PROMPT_TOKENS + written)
        prompt_s = bounds.prompts_s(self.arrival_tokens)
        return {
            **beside("quiet_step_", step_s, self.num_streams / figures["quiet_tok_s"]),
            **beside("alone_prompt_", prompt_s, figures["alone_ttft_ms_p50"] / MS),
        }

    async def _arrivals(self, target: Target, kit: Kit) -> Sequence[Heard]:
        """One window of them: sent on time, however long the earlier ones take."""
        arrivals: list[Heard] = []
        began = kit.clock.monotonic()
        async with asyncio.TaskGroup() as group:
            tasks = []
            for number in range(int(self.window_s / self.every_s)):
                prompt = kit.prompts.fresh(self.arrival_tokens)
                await asyncio.sleep(max(0.0, began + number * self.every_s - kit.clock.monotonic()))
                heard = Heard(sent_at=kit.clock.monotonic(), prompt_tokens=len(prompt))
                arrivals.append(heard)
                tasks.append(group.create_task(listen(target, prompt, self.arrival_output, heard)))
            await asyncio.sleep(max(0.0, began + self.window_s - kit.clock.monotonic()))
            await asyncio.wait(tasks, timeout=PATIENCE_S)
            for task in tasks:
                task.cancel()
        return arrivals


@asynccontextmanager
async def steady_streams(target: Target, kit: Kit, num_streams: int) -> AsyncIterator[list[Heard]]:
    """Fresh streams that outlive a window, cancelled at the end of the block: contexts grow alike in every window."""
    streams: list[Heard] = []
    output = min(MAX_STREAM_TOKENS, target.max_context - STREAM_PROMPT_TOKENS)
    async with asyncio.TaskGroup() as group:
        tasks = []
        for _ in range(num_streams):
            prompt = kit.prompts.fresh(STREAM_PROMPT_TOKENS)
            heard = Heard(sent_at=kit.clock.monotonic(), prompt_tokens=len(prompt))
            streams.append(heard)
            tasks.append(group.create_task(listen(target, prompt, output, heard)))
        await asyncio.sleep(SETTLE_S)
        yield streams
        for task in tasks:
            task.cancel()


def _ratios(figures: Figures) -> Figures:
    """What the bars are made of, where both sides were measured."""
    ratios = {}
    for name, over, under in (
        ("itl_p99_ratio", "itl_ms_p99", "quiet_itl_ms_p99"),
        ("ttft_p50_ratio", "ttft_ms_p50", "alone_ttft_ms_p50"),
    ):
        if over in figures and under in figures:
            ratios[name] = figures[over] / figures[under]
    return ratios
