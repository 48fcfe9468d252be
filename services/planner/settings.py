"""What the operator wants of `decide`, out of the configuration."""

from dataclasses import dataclass

from common.config.config import Config
from common.core.worker import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Workers of one role: at least, at most."""

    least: int
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerSettings:
    """Seconds and shares; what each is for is said at its knob in common/config/sections/planner.py."""

    prefill: Bounds = Bounds(least=1, most=8)
    decode: Bounds = Bounds(least=1, most=8)
    interval_s: float = 2.0
    window_s: float = 3600.0
    lead_s: float = 60.0
    """From a decision to a ready worker: the level that counts is that of then."""
    hold_s: float = 120.0
    idle_s: float = 600.0
    miss_share: float = 0.1
    ttft_s: float = 2.0
    itl_s: float = 0.1
    step_budget_s: float = 0.05
    """Of a decode worker's step, in which prompts are read beside answers: `engine.itl_budget_ms`."""
    step_tokens: int = 512
    """Of a prefill worker's step: `engine.max_batch_tokens`."""
    chunk_tokens: int = 256
    """One prompt's share of it: `engine.chunk_tokens`."""
    admission_s: float = 1.0
    load_target: float = 0.75
    hpa_tolerance: float = 0.1

    @classmethod
    def of(cls, config: Config) -> "PlannerSettings":
        section = config.planner
        return cls(
            prefill=Bounds(least=section.min_prefill, most=section.max_prefill),
            decode=Bounds(least=section.min_decode, most=section.max_decode),
            interval_s=section.interval_s,
            window_s=section.window_s,
            lead_s=section.start_s,
            hold_s=section.hold_s,
            idle_s=section.idle_s,
            miss_share=section.miss_share,
            ttft_s=section.ttft_s,
            itl_s=section.itl_s,
            step_budget_s=config.engine.itl_budget_ms / 1000.0,
            step_tokens=config.engine.max_batch_tokens,
            chunk_tokens=config.engine.chunk_tokens,
            admission_s=section.admission_s,
            load_target=section.load_target,
            hpa_tolerance=section.hpa_tolerance,
        )

    def bounds(self, role: Role) -> Bounds:
        return self.prefill if role is Role.PREFILL else self.decode

    @property
    def prompts_together(self) -> int:
        """Prompts that share each of a prefill worker's steps when there is a queue of long ones."""
        return max(1, self.step_tokens // self.chunk_tokens)

    @property
    def may_be_none(self) -> bool:
        """Whether the pair may go to no workers at all. One without the other serves nobody."""
        return self.prefill.least == self.decode.least == 0
