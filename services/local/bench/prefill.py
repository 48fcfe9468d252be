"""How fast one prompt is read: time to the first token, alone on the target."""

from dataclasses import dataclass

from services.local.bench.bounds import beside
from services.local.bench.spread import MS
from services.local.bench.target import Target, hear
from services.local.bench.workload import Figures, Kit


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillSpeed:
    """One prompt, one token."""

    prompt_tokens: int

    @property
    def name(self) -> str:
        return f"prefill_{self.prompt_tokens}"

    async def run(self, target: Target, kit: Kit) -> Figures:
        heard = await hear(target, kit.prompts.fresh(self.prompt_tokens), 1, kit.clock)
        figures = {"tok_s": self.prompt_tokens / heard.ttft_s, "ttft_ms": heard.ttft_s * MS}
        if kit.bounds is not None:
            figures |= beside("ttft_", kit.bounds.prompts_s(self.prompt_tokens), heard.ttft_s)
        return figures
