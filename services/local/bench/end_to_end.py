"""Everything at once: 64 prompts of 1,024 tokens that arrive together, 256 tokens answered to each."""

from dataclasses import dataclass

from services.local.bench.decode import DecodeSpeed
from services.local.bench.target import Target
from services.local.bench.workload import Figures, Kit


@dataclass(frozen=True, slots=True, kw_only=True)
class EndToEnd:
    """Figures of DecodeSpeed under another load: here prompts weigh as much as answers."""

    num_streams: int = 64
    prompt_tokens: int = 1024
    output_tokens: int = 256

    @property
    def name(self) -> str:
        return f"e2e_{self.num_streams}"

    async def run(self, target: Target, kit: Kit) -> Figures:
        load = DecodeSpeed(
            num_streams=self.num_streams, prompt_tokens=self.prompt_tokens, output_tokens=self.output_tokens
        )
        return await load.run(target, kit)
