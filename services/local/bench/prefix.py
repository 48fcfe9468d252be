"""What a cached beginning is worth: the same 1,920 tokens again before 128 new ones."""

from dataclasses import dataclass

from services.local.bench.bounds import beside
from services.local.bench.spread import MS
from services.local.bench.target import Target, hear
from services.local.bench.workload import Figures, Kit


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixReuse:
    """TTFT of a prompt nobody has seen, then of one that shares `shared_tokens` with it."""

    prompt_tokens: int = 2048
    shared_tokens: int = 1920

    @property
    def name(self) -> str:
        return f"prefix_{self.shared_tokens}_of_{self.prompt_tokens}"

    async def run(self, target: Target, kit: Kit) -> Figures:
        first = kit.prompts.fresh(self.prompt_tokens)
        cold = await hear(target, first, 1, kit.clock)
        again = (*first[: self.shared_tokens], *kit.prompts.fresh(self.prompt_tokens - self.shared_tokens))
        warm = await hear(target, again, 1, kit.clock)
        figures = {
            "cold_ttft_ms": cold.ttft_s * MS,
            "warm_ttft_ms": warm.ttft_s * MS,
            "speedup": cold.ttft_s / warm.ttft_s,
        }
        if kit.bounds is not None:
            new = self.prompt_tokens - self.shared_tokens
            figures |= beside("cold_ttft_", kit.bounds.prompts_s(self.prompt_tokens), cold.ttft_s)
            figures |= beside("warm_ttft_", kit.bounds.prompts_s(new, start=self.shared_tokens), warm.ttft_s)
        return figures
