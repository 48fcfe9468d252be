"""Goal: the table of docs/admission.md. Method: rows."""

import pytest

from common.config.loader import load
from common.core.ids import WorkerId
from common.core.request import Priority
from services.router.classify import Facts
from services.router.request_class import Reading, Size, request_class, targets_of
from services.router.view import FleetView

TARGETS = targets_of(load(settings=["admission.ttft_interactive_s=2"]).admission)


@pytest.mark.parametrize(
    ("declared", "reading_s", "found"),
    [
        (Priority.INTERACTIVE, 0.0, Priority.INTERACTIVE),
        (Priority.INTERACTIVE, 2.0, Priority.INTERACTIVE),
        (Priority.INTERACTIVE, 2.1, Priority.STANDARD),
        (Priority.STANDARD, 100.0, Priority.STANDARD),
        (Priority.BATCH, 0.0, Priority.BATCH),
    ],
)
def test_a_class_is_never_raised_and_falls_where_it_cannot_be_served(
    declared: Priority, reading_s: float, found: Priority
) -> None:
    reading = Reading(uncached_tokens=1000, seconds=reading_s)
    classed = request_class(declared, prompt_tokens=1000, reading=reading, short_tokens=128, targets=TARGETS)
    assert classed.priority is found
    assert classed.targets == TARGETS[found]


@pytest.mark.parametrize(
    ("prompt", "uncached", "size"),
    [(1000, 100, Size.CACHED), (1000, 101, Size.SHORT), (128, 128, Size.SHORT), (1000, 129, Size.LONG)],
)
def test_size_is_what_must_be_computed(prompt: int, uncached: int, size: Size) -> None:
    reading = Reading(uncached_tokens=uncached)
    found = request_class(Priority.BATCH, prompt_tokens=prompt, reading=reading, short_tokens=128, targets=TARGETS)
    assert found.size is size


def test_reading_nothing_is_known_about_takes_no_time() -> None:
    facts = Facts(context_tokens=100, num_choices=1, page_size=16, hits={WorkerId("d0"): 64})
    assert Reading.of(facts, FleetView(workers=())) == Reading(uncached_tokens=100, seconds=0.0)
