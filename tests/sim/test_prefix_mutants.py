"""Bugs that a fetch of cached pages could have, put into production code: storms in which much is fetched find them."""

from collections.abc import Callable
from itertools import islice

import pytest

from common.core.ids import RequestId
from common.kv.cache import PageCache
from common.worker.kept import KeptPages
from common.worker.loan import Loan
from common.worker.prefix_desk import PrefixDesk, _Coming
from tests.sim.placer import DECODE, PREFILL
from tests.sim.storm import storm, weather
from tests.sim.test_prefix import stop_amid_copies, stop_amid_landing

Break = Callable[[pytest.MonkeyPatch], None]
MAX_STORMS = 25

pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def pages_are_cached_before_their_bytes_came(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_Coming, "num_here", property(lambda self: len(self.pages)))


def fetched_pages_keep_their_reader(patch: pytest.MonkeyPatch) -> None:
    original = PrefixDesk._close

    def close(self: PrefixDesk, coming: _Coming) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(PageCache, "release", lambda self, refs: ())
            original(self, coming)

    patch.setattr(PrefixDesk, "_close", close)


def lent_pages_are_never_given_back(patch: pytest.MonkeyPatch) -> None:
    original = KeptPages.release

    def release(self: KeptPages, request: RequestId) -> None:
        if "^" not in request:
            original(self, request)

    patch.setattr(KeptPages, "release", release)


@pytest.mark.parametrize(
    "mutant",
    [pages_are_cached_before_their_bytes_came, fetched_pages_keep_their_reader, lent_pages_are_never_given_back],
    ids=lambda mutant: mutant.__name__,
)
def test_a_storm_of_fetches_finds_it(mutant: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    kindred = (seed for seed in range(720) if weather(seed).is_kindred)
    for seed in islice(kindred, MAX_STORMS):
        try:
            storm(seed)
        except Exception as error:  # noqa: BLE001 - a mutant may die of anything
            print(f"{mutant.__name__}: storm {seed}: {type(error).__name__}")
            return
    pytest.fail(f"{mutant.__name__} survived {MAX_STORMS} storms")


def test_a_holder_that_is_stopped_amid_a_copy_finds_that_copied_pages_keep_their_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No storm does: hardly ever is somebody stopped amid so short a copy."""
    original = Loan.leave

    def leave(self: Loan) -> bool:
        original(self)
        return True

    monkeypatch.setattr(Loan, "leave", leave)
    with pytest.raises(TimeoutError):
        stop_amid_copies()


def a_reader_does_not_ask_who_is_inside(patch: pytest.MonkeyPatch) -> None:
    """Pages go while a copy still writes them."""

    def close(self: PrefixDesk, coming: _Coming) -> None:
        coming.promise.permit.revoke()
        self._cache.end_write(coming.missing())

    patch.setattr(PrefixDesk, "_end_writing", close)
    patch.setattr(PrefixDesk, "left", lambda self, permit: None)


def nobody_hears_that_a_copy_ended(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PrefixDesk, "left", lambda self, permit: None)


@pytest.mark.parametrize("reader", [DECODE, PREFILL])
@pytest.mark.parametrize(
    "mutant", [a_reader_does_not_ask_who_is_inside, nobody_hears_that_a_copy_ended], ids=lambda mutant: mutant.__name__
)
def test_a_reader_that_is_stopped_amid_landing_finds_it(
    mutant: Break, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises((AssertionError, TimeoutError)):
        stop_amid_landing(reader)
