"""Breadth-first search over an explicit-state model: safety on the way, liveness afterwards."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

State = TypeVar("State", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Generic[State]):
    """What the search found. `wrong` and `stuck` are shortest paths as lists of step names, None when there is none.

    wrong: to a state that must not exist; the search ends there. stuck: to a state from which no settled state can be
    reached any more, whatever happens.
    """

    num_states: int
    wrong: tuple[str, ...] | None = None
    stuck: tuple[str, ...] | None = None


def explore(
    start: State,
    *,
    successors: Callable[[State], Iterable[tuple[str, State]]],
    is_wrong: Callable[[State], bool],
    is_settled: Callable[[State], bool],
    max_states: int,
) -> Verdict[State]:
    """Visit every reachable state. Raises AssertionError when there are more than `max_states`."""
    numbers: dict[State, int] = {start: 0}
    arrivals: list[tuple[int, str]] = [(0, "start")]
    parents: list[list[int]] = [[]]
    settled = [0] if is_settled(start) else []
    frontier = deque([start])
    while frontier:
        state = frontier.popleft()
        number = numbers[state]
        for step, after in successors(state):
            known = numbers.get(after)
            if known is not None:
                parents[known].append(number)
                continue
            known = numbers[after] = len(arrivals)
            assert known < max_states, f"more than {max_states} states"
            arrivals.append((number, step))
            parents.append([number])
            if is_wrong(after):
                return Verdict(num_states=len(arrivals), wrong=_path(arrivals, known))
            if is_settled(after):
                settled.append(known)
            frontier.append(after)
    stuck = _first_unable(parents, settled)
    return Verdict(num_states=len(arrivals), stuck=None if stuck is None else _path(arrivals, stuck))


def _first_unable(parents: list[list[int]], goals: list[int]) -> int | None:
    """The first state, in the order of discovery, from which no goal can be reached."""
    is_able = bytearray(len(parents))
    waiting = deque(goals)
    for goal in goals:
        is_able[goal] = True
    while waiting:
        for parent in parents[waiting.popleft()]:
            if not is_able[parent]:
                is_able[parent] = True
                waiting.append(parent)
    found = is_able.find(0)
    return None if found < 0 else found


def _path(arrivals: list[tuple[int, str]], number: int) -> tuple[str, ...]:
    steps: list[str] = []
    while number:
        number, step = arrivals[number]
        steps.append(step)
    return tuple(reversed(steps))
