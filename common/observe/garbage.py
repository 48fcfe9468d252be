"""When Python looks for cycles of garbage: seldom, and never among what lives as long as the process.

A look stops every stream of the process, and nearly everything here is freed without one. By default the objects of one
burst of tokens set it off: with 200 streams a router looked through all of its 126,000 objects every 2 s, a tenth of a
second each time, which was the 99th percentile of the time between two tokens.
"""

import gc

OBJECTS_OF_BURST = 20_000
"""Measured: with 500 streams 6,500 objects of a step's tokens live until the next step, and as many more while it is
written. Freed again, they start no look."""

LOOKS_UNTIL_OLDER = 0
"""Chosen: every second look takes the survivors of the one before along, and then leaves them alone. With ten, those
while 500 streams began left 100,000 survivors for one pause of 54 ms somewhat later, amid the streams."""

LOOKS_UNTIL_ALL = 12
"""Chosen: cycles that nobody freed are half a million objects at most, some 50 MB; all is looked through once in well
over a thousand requests."""


def hold_collector() -> None:
    """Until `calm_collector`: what is imported stays, and to look for garbage amid it takes a tenth of all imports."""
    gc.disable()


def calm_collector() -> None:
    """When everything is imported and nothing is served yet: what exists now is never looked through again."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(OBJECTS_OF_BURST, LOOKS_UNTIL_OLDER, LOOKS_UNTIL_ALL)
