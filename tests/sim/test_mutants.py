"""Famous bugs, put back into production code, are found by what is named beside them; so are those found by storms.

The table that the last test prints says by what and how: with `-rP`, or `-s`.
"""

import gc
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.sim import mutants
from tests.sim.client import Leaving
from tests.sim.mutants import Break
from tests.sim.play import play
from tests.sim.stories import SLOW_LANDING, leave, leave_amid_landing, leave_unheard, replace_amid_placement
from tests.sim.storm import storm

# A broken world may end in its first moment, amid what it was about to begin.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MAX_STORMS = 40
"""Measured: mutants that any storm may meet are found within 25."""

FIRST_STORM: dict[Break, int] = {mutants.an_aborted_transfer_opens_its_link_again: 225, mutants.double_free: 2}
"""Where to look: the storm that finds the first, a rare one, has the seed 232. Any finds the other; what is broken goes
on until a storm ends, for 15 s of processor time in the first and 2.4 in this."""


def storm_over_rings(seed: int) -> None:
    """With nobody who looks for garbage amid it."""
    gc.collect()
    gc.disable()
    try:
        storm(seed, num_slots=4)
    finally:
        gc.enable()


Check = Callable[[], object]
KILLED: dict[str, str] = {}

BY_STORMS: tuple[Break, ...] = (
    mutants.forget_to_free,
    mutants.double_free,
    mutants.skip_the_epoch_check,
    mutants.token_offset_by_one,
    mutants.resumed_one_token_late,
    mutants.land_in_another_order,
    mutants.free_before_the_bytes_left,
    mutants.acknowledge_before_landing,
    mutants.an_aborted_transfer_opens_its_link_again,
)

BY_NAME: dict[Break, tuple[str, Check]] = {
    mutants.free_under_a_writer: (
        "a client leaves amid landing",
        lambda: play(leave_amid_landing, prefill=1, decode=1, config=SLOW_LANDING, offload_s=0.02),
    ),
    mutants.a_closed_channel_cancels_its_caller: (
        "a worker is replaced amid a placement",
        lambda: play(replace_amid_placement, prefill=1, decode=1),
    ),
    mutants.drop_a_cancel: ("a client leaves", lambda: play(leave(Leaving.HANG_UP, 0.3))),
    mutants.a_lent_slot_is_forgotten: ("a storm over shared memory", lambda: storm_over_rings(41)),
    mutants.an_error_keeps_what_it_passed: ("a storm over shared memory", lambda: storm_over_rings(41)),
    mutants.a_deadline_keeps_its_task: ("a storm over shared memory", lambda: storm_over_rings(41)),
    mutants.a_cancel_waits_for_a_broken_stream: ("a cancel unheard", lambda: play(leave_unheard("cut", 1.2), decode=1)),
}


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    """What killed each, with -s."""
    yield
    for mutant, how in KILLED.items():
        print(f"{mutant:45} {how}")


@pytest.mark.parametrize("mutant", BY_STORMS, ids=lambda mutant: mutant.__name__)
def test_any_storm_finds_it(mutant: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    first = FIRST_STORM.get(mutant, 0)
    for seed in range(first, first + MAX_STORMS):
        if _finds(mutant, f"storm {seed}", partial(storm, seed)):
            return
    pytest.fail(f"{mutant.__name__} survived {MAX_STORMS} storms")


@pytest.mark.parametrize("mutant", BY_NAME, ids=lambda mutant: mutant.__name__)
def test_its_own_check_finds_it(mutant: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check passes without the mutant and fails with it."""
    name, check = BY_NAME[mutant]
    check()
    mutant(monkeypatch)
    assert _finds(mutant, name, check), f"{mutant.__name__} survived: {name}"


def _finds(mutant: Break, name: str, check: Check) -> bool:
    try:
        check()
    except Exception as error:  # noqa: BLE001 - a mutant may die of anything
        KILLED[mutant.__name__] = f"{name}: {type(error).__name__}: {str(error).partition(chr(10))[0][:110]}"
        return True
    return False
