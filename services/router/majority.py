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
    heard = tuple(said)
    if heard and heard.count(heard[0]) == len(heard):  # nearly every time, and asked several times a request
        return heard[0]
    return next((value for value, _ in Counter(heard).most_common(1)), None)
