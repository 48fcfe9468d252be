"""What most workers say, where one figure is needed for all of them. Pure.

One that says something else, by mistake or amid a rollout, cannot meet the others anyway: layouts are compared there.
It may not make their pages look too dear to be moved, or their caches look empty, either.
"""

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def majority(said: Iterable[T]) -> T | None:
    """The commonest value; the first of those that are equally common; None where nobody says anything."""
    return next((value for value, _ in Counter(said).most_common(1)), None)
