"""Work placed lately, fading: what was placed long ago says nothing of who is busy now."""

import math

RECENT_S = 30.0
"""Time constant. Chosen: several prompts of any length, short against a conversation's pauses."""


def faded(tokens: float, at: float, now: float) -> float:
    """What is left now of tokens that counted in full at `at`."""
    return tokens * math.exp(-max(0.0, now - at) / RECENT_S)
