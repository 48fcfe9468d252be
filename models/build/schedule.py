"""What training does at each moment, as a function of the share of the budget already spent.

The budget is wall time or a number of steps; both give a progress in [0, 1), so a run on a busy machine
still anneals to the end. Only a run counted in steps repeats exactly.
"""

from dataclasses import dataclass

WARMUP_END = 0.02
DECAY_START = 0.75
FINAL_FACTOR = 0.02
TOKENS_PER_STEP = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """From `start` on, steps take turns with these window lengths, in tokens."""

    start: float
    lengths: tuple[int, ...]


# Short windows are cheap and teach most of the language; the last phase mixes in whole contexts, so that
# attention over 4,096 positions is trained while the learning rate decays.
PHASES = (
    Phase(start=0.0, lengths=(256,)),
    Phase(start=0.3, lengths=(512,)),
    Phase(start=0.8, lengths=(512, 512, 4096)),
)


def learning_rate_factor(progress: float) -> float:
    """Warm up, stay, then decay linearly (WSD); multiplies every base learning rate."""
    if progress < WARMUP_END:
        return max(progress, 0.001) / WARMUP_END
    if progress < DECAY_START:
        return 1.0
    left = (1.0 - min(progress, 1.0)) / (1.0 - DECAY_START)
    return FINAL_FACTOR + (1.0 - FINAL_FACTOR) * left


def window_length(progress: float, step: int) -> int:
    """Tokens per window of this step; a batch always holds TOKENS_PER_STEP tokens."""
    phase = [phase for phase in PHASES if phase.start <= progress][-1]
    return phase.lengths[step % len(phase.lengths)]
