"""The past load tried on another number of workers: "would N - 1 have held it?" A fluid queue, slot by slot. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.planner.demand import Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """`missed`: the share of the work that this many workers would have served too late."""

    workers: int
    missed: float


Try = Callable[[int], float]
"""The share missed by so many workers. Falls, or stays, as they grow."""


def reading_missed(slots: Sequence[Slot], workers: int, *, wait_s: float, load_target: float) -> float:
    """Share of reading that began later than `wait_s`, first come first served. All of a slot's work comes at its
    beginning: bursts are shorter than a slot."""
    backlog = missed = total = 0.0
    for slot in slots:
        backlog += slot.reading_s
        missed += min(slot.reading_s, max(0.0, backlog - workers * wait_s))
        total += slot.reading_s
        backlog = max(0.0, backlog - workers * load_target * slot.seconds)
    return missed / total if total > 0 else 0.0


def writing_missed(slots: Sequence[Slot], workers: int, *, load_target: float) -> float:
    """Share of decode that had no place."""
    missed = sum(max(0.0, slot.writers - workers * load_target) * slot.seconds for slot in slots)
    total = sum(slot.writers * slot.seconds for slot in slots)
    return missed / total if total > 0 else 0.0


def least_workers(attempt: Try, *, least: int, most: int, allowed: float) -> tuple[int, tuple[Trial, ...]]:
    """The fewest workers that miss no more than `allowed`, `most` if none does; and every trial on the way there, the
    last that failed included."""
    trials: dict[int, Trial] = {}

    def misses(workers: int) -> bool:
        trials[workers] = Trial(workers=workers, missed=attempt(workers))
        return trials[workers].missed > allowed

    low, high = least, most
    while low < high:
        middle = (low + high) // 2
        if misses(middle):
            low = middle + 1
        else:
            high = middle
    return low, tuple(trials[workers] for workers in sorted(trials))
