"""What no target can undercut by much: a workload's least effort over what this machine reaches. Pure.

Bounds are of the whole machine, also where a way gives a worker half of it. Prompts are bounded as if they were read
first, and answers as if they were written afterwards by all streams at once: a schedule that mixes them may hide a part
of one behind the other.
"""

from dataclasses import dataclass

from common.model.effort import Effort, SizedModel
from services.local.bench.spread import MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What was measured in the same run: bytes moved by a large copy, operations of a large product of matrices."""

    bytes_per_s: float
    flops_per_s: float

    def seconds(self, effort: Effort) -> float:
        return max(effort.num_bytes / self.bytes_per_s, effort.flops / self.flops_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Seconds, for the model that is measured."""

    model: SizedModel
    ceilings: Ceilings

    def prompts_s(self, num_tokens: int, *, num_prompts: int = 1, start: int = 0) -> float:
        """Prompts of so many new tokens each, behind `start` that a cache holds."""
        return self.ceilings.seconds(self.model.prompt(num_tokens, num_prompts=num_prompts, start=start))

    def step_s(self, num_rows: int, context: int) -> float:
        """A step of rows with so many tokens each."""
        return self.ceilings.seconds(self.model.step(num_rows, context))

    def answers_s(self, num_rows: int, prompt_tokens: int, output_tokens: int) -> float:
        """Every step after the first token, which a prompt ends with."""
        return sum(self.step_s(num_rows, prompt_tokens + number) for number in range(1, output_tokens))

    def copy_s(self, num_bytes: float) -> float:
        """So many bytes read once and written once."""
        return 2 * num_bytes / self.ceilings.bytes_per_s


def beside(name: str, bound_s: float, taken_s: float) -> dict[str, float]:
    """Figures in the order in which they are read: bound, time, share. `name` with its underscore, or empty."""
    return {f"{name}bound_ms": bound_s * MS, f"{name}ms": taken_s * MS, f"{name}share_of_bound": bound_s / taken_s}
