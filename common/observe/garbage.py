"""When Python looks for cycles of garbage: seldom, and never among what lives as long as the process.

A look stops every stream of the process, and nearly everything here is freed without one. By default the objects of one
burst of tokens set it off: with 200 streams a router looked through all of its 126,000 objects every 2 s, a tenth of a
second each time, which was the 99th percentile of the time between two tokens.
"""

import gc

OBJECTS_OF_BURST = 10_000
"""Chosen: twice what a step's tokens for 500 streams are while they are written. Freed again, they start no look."""

LOOKS_UNTIL_OLDER = 10
LOOKS_UNTIL_ALL = 5
"""Chosen: cycles that nobody freed are half a million objects at most, some 50 MB; all is looked through once in well
over a thousand requests."""


def calm_collector() -> None:
    """Once, when everything is imported and nothing is served yet: what exists now is never looked through again."""
    gc.freeze()
    gc.set_threshold(OBJECTS_OF_BURST, LOOKS_UNTIL_OLDER, LOOKS_UNTIL_ALL)
