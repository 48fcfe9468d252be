"""Goal: a worker that refused is offered work as places come free, not by all who wait. Method: the window alone."""

from common.core.worker import LoadReport, PageCounts
from services.router.window import MAX_CREDIT, MAX_PATIENCE_S, OPEN_AFTER, PATIENCE_S, Window


def load(running: int, used: int = 0) -> LoadReport:
    pages = PageCounts(total=100, free=100 - used, promised=0, referenced=used, cached=0)
    return LoadReport(pages=pages, running_sequences=running)


def refused(window: Window, now: float = 0.0, running: int = 8) -> None:
    window.offered(now)
    window.refused(load(running, running), now)


def test_a_worker_that_never_refused_is_open() -> None:
    assert Window().is_open(0.0)


def test_a_refusal_closes_until_a_place_is_freed_and_then_for_one_offer() -> None:
    window = Window()
    refused(window)
    assert not window.is_open(0.01)
    window.freed()
    assert window.is_open(0.01)
    window.offered(0.01)
    assert not window.is_open(0.02)


def test_a_report_opens_for_as_many_offers_as_sequences_left() -> None:
    window = Window()
    refused(window)
    window.reported(load(8, 8))
    assert not window.is_open(0.01), "nothing has changed there"
    window.reported(load(6, 6))
    for _ in range(2):
        assert window.is_open(0.01)
        window.offered(0.01)
    assert not window.is_open(0.01)


def test_pages_that_were_freed_are_worth_one_offer() -> None:
    window = Window()
    window.refused(load(8, 50), 0.0)
    window.reported(load(8, 40))
    assert window.is_open(0.01)
    window.offered(0.01)
    assert not window.is_open(0.01)


def test_offers_taken_in_a_row_open_it_again() -> None:
    window = Window()
    refused(window)
    window.freed()
    for _ in range(OPEN_AFTER):
        assert window.is_open(0.01)
        window.offered(0.01)
        window.taken()
    for _ in range(100):
        window.offered(0.01)
    assert window.is_open(0.01)


def test_a_silent_worker_is_asked_ever_more_rarely() -> None:
    window, now, asked = Window(), 0.0, 0
    refused(window)
    while now < 10.0:
        now += 0.01
        if window.is_open(now):
            asked += 1
            refused(window, now)
    assert asked < 10.0 / MAX_PATIENCE_S + 8
    assert PATIENCE_S < window.patience_s <= MAX_PATIENCE_S


def test_freed_places_do_not_pile_up() -> None:
    window = Window()
    refused(window)
    for _ in range(1000):
        window.freed()
    for _ in range(MAX_CREDIT):
        window.offered(0.01)
    assert not window.is_open(0.01)


def test_three_hundred_requests_for_eight_places_cost_about_two_offers_each() -> None:
    """Whoever waits asks when it may; places come free one by one."""
    window, running, waiting, offers, now = Window(), 0, 300, 0, 0.0
    while waiting or running:
        now += 0.001
        while waiting and window.is_open(now):
            offers += 1
            window.offered(now)
            if running < 8:
                running, waiting = running + 1, waiting - 1
                window.taken()
            else:
                window.refused(load(running), now)
        running -= 1
        window.freed()
        window.reported(load(running))
    assert offers <= 2 * 300 + 8
