"""How long landing pauses between two pieces, so that the running batch does not notice and landing still ends soon."""

SHARE = 0.15
"""Of one core's time. Chosen: a step may lose 25 % to landing where both have one core; the rest is for what digests
and receiving take."""

MAX_REST_S = 0.02
"""Chosen: a copy that was interrupted for long says nothing about the next one; a run of 4 MiB still lands in 40 ms."""


def plan_rest_s(*, copy_s: float, is_stepping: bool) -> float:
    """Pause after a copy that took `copy_s`. None is needed where no step could be held up."""
    return min(copy_s * (1 / SHARE - 1), MAX_REST_S) if is_stepping else 0.0
