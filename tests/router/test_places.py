"""Goal: a refusal tells what it tells, and no more. Method: places of the three classes, and of a line, by hand."""

from dataclasses import dataclass, field

from common.core.queue import Cause
from common.core.request import Priority
from services.router.admission.places import PROBE_S, AllPlaces
from tests.router.test_line import line, ticket


def room(places: AllPlaces, *, num_landing: int = 0, now: float = 0.0) -> set[Priority]:
    """Classes of which one more may come while two are active."""
    return {each for each in Priority if places.has_room(each, num_active=2, num_landing=num_landing, now=now)}


def test_who_is_refused_speaks_for_the_classes_below_and_not_for_those_above() -> None:
    places = AllPlaces()
    places.note_refused(Priority.STANDARD, 2, 0.0)
    assert room(places) == {Priority.INTERACTIVE}


def test_who_lands_speaks_for_the_classes_above_and_not_for_those_below() -> None:
    places = AllPlaces()
    places.note_refused(Priority.INTERACTIVE, 2, 0.0)
    places.note_landed(Priority.STANDARD, 3)
    assert room(places) == {Priority.INTERACTIVE, Priority.STANDARD}


def test_beyond_what_is_known_one_tries_at_a_time_and_after_a_pause() -> None:
    places = AllPlaces()
    places.note_refused(Priority.INTERACTIVE, 2, 0.0)
    later = max(PROBE_S.values())
    assert room(places, now=PROBE_S[Priority.INTERACTIVE]) == {Priority.INTERACTIVE}
    assert room(places, now=later) == set(Priority)
    assert room(places, now=later, num_landing=1) == set()


@dataclass(slots=True)
class Asked:
    """A fleet with room, that remembers for how much it was asked."""

    asked: list[tuple[int, int]] = field(default_factory=list)

    def obstacle(self, num_pages: int, num_tokens: int) -> Cause | None:
        self.asked.append((num_pages, num_tokens))
        return None

    def places_for(self, priority: Priority) -> int | None:
        return None


def test_who_is_let_in_counts_until_the_fleet_counts_it() -> None:
    """Between the line and the workers' own reports nobody else may be promised the same pages."""
    held, fleet = line(), Asked()
    for name in "abc":
        held.offer(ticket(name, num_pages=3, uncached_tokens=10), 0.0, chance=0.5)
    taken = held.take(0.0, fleet)
    assert held.take(0.0, fleet) is not None
    assert taken is not None
    held.assign(taken.request)
    assert held.take(0.0, fleet) is not None
    assert fleet.asked == [(3, 0), (6, 10), (6, 10)]
