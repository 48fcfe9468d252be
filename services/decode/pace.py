"""How many pages land before a step, so that the running batch does not notice and landing still ends soon."""

from collections import deque

SHARE = 0.15
"""Of a step's time. Chosen: a step may lose 25 % to landing; the rest is for what digests and receiving take from the
caches and the core that the step computes on."""

MAX_STEPS = 64
"""Chosen: what waits now has landed after so many steps, however slow the copies: 2 s of steps of 30 ms."""

ASSUMED_BYTES_PER_S = 1e9
"""Until a copy was measured. Chosen: pages that are touched for the first time take a tenth of a copy's usual speed."""

RECENT = 32
"""Steps, and copies, that a median is taken of. Chosen: follows a growing batch within a second."""


def plan_slice(*, waiting_pages: int, page_s: float, step_s: float | None, ceiling_pages: int) -> int:
    """Pages to land before the next step: those that fit into its share, at least what bounds the wait of the last.

    `page_s`: what a page takes to copy. `step_s`: what a step takes; None where none is held up. `ceiling_pages` rules.
    """
    if step_s is None:
        return ceiling_pages
    fitting = int(min(SHARE * step_s / page_s, ceiling_pages)) if page_s > 0 else ceiling_pages
    return min(ceiling_pages, max(1, fitting, -(-waiting_pages // MAX_STEPS)))


class Recent:
    """The median of the last RECENT values: one slow step, or a copy that was interrupted, does not count."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=RECENT)

    def add(self, value: float) -> None:
        self._values.append(value)

    @property
    def median(self) -> float | None:
        """The middle one, the lower of two; None before the first."""
        return sorted(self._values)[(len(self._values) - 1) // 2] if self._values else None
