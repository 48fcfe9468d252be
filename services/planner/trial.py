"""The past load tried on another number of workers: "would N - 1 have held it?" A fluid queue, slot by slot. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from services.planner.demand import Past


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """`missed`: the share of the work that this many workers would have served too late."""

    workers: int
    missed: float


Try = Callable[[int], float]
"""The share missed by so many workers. Falls, or stays, as they grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """`to_grow`: what so many miss for sure. `to_shrink`: what they might miss, never less."""

    to_grow: Try
    to_shrink: Try


def reading_missed(past: Past, workers: int, *, wait_s: float) -> float:
    """Share of reading that began later than `wait_s`, first come first served, on so many workers and what the others
    lend. All of a slot's work comes at its beginning: bursts are shorter than a slot. The queue is tried itself, so
    no time is set aside for queueing."""
    backlog = missed = 0.0
    for seconds, work, lent in zip(past.seconds, past.work, past.lent, strict=True):
        readers = workers + lent
        if work:
            backlog += work
            most = readers * wait_s
            if backlog > most:
                missed += min(work, backlog - most)
        backlog -= readers * seconds
        if backlog < 0.0:  # noqa: PLR1730 - a thousand slots a look: max() costs more than all the rest
            backlog = 0.0
    total = sum(past.work)
    return missed / total if total > 0 else 0.0


def writing_missed(past: Past, workers: int, *, load_target: float) -> float:
    """Share of decode that had no place."""
    places = workers * load_target
    slots = zip(past.seconds, past.work, strict=True)
    missed = sum(work - places * seconds for seconds, work in slots if work > places * seconds)
    total = sum(past.work)
    return missed / total if total > 0 else 0.0


def writing_crowded(past: Past, workers: int, *, load_target: float) -> float:
    """Share of decode at times that had too few places: who comes then waits until somebody else is done, so this is
    never less than what had none."""
    places = workers * load_target
    slots = zip(past.seconds, past.work, strict=True)
    crowded = sum(work for seconds, work in slots if work > places * seconds)
    total = sum(past.work)
    return crowded / total if total > 0 else 0.0


def least_workers(attempt: Try, *, least: int, most: int, allowed: float, guess: int) -> tuple[int, tuple[Trial, ...]]:
    """The fewest workers that miss no more than `allowed`, `most` if none does; and every trial on the way there, the
    last that failed included. Begins at `guess`, where the answer mostly is."""
    trials: dict[int, Trial] = {}

    def misses(workers: int) -> bool:
        if workers not in trials:
            trials[workers] = Trial(workers=workers, missed=attempt(workers))
        return trials[workers].missed > allowed

    low, high = least, most
    middle = min(max(guess, least), most)
    stride = 1
    while low < high:
        if misses(min(middle, high - 1)):
            low = min(middle, high - 1) + 1
            middle = low + stride - 1
        else:
            high = min(middle, high - 1)
            middle = max(low, high - stride)
        stride *= 2
    return low, tuple(trials[workers] for workers in sorted(trials))
