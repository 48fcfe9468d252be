"""Goal: up for what is needed, down only for what is proven, nothing on what is not known. Method: loads by hand."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest

from common.core.queue import Cause
from common.core.worker import Role
from services.planner.decide import Why
from services.planner.load import Crew, Load
from services.planner.settings import Bounds
from tests.planner.loads import COST, SETTINGS, load, walk, wanted

QUIET = load()
BUSY = load(read_s=3.0)


def test_a_load_step_is_answered_at_the_second_look() -> None:
    """The bar: two metric periods. The first look has nothing to compare with."""
    found = wanted(walk([load(read_s=0.3), load(read_s=0.3), BUSY, BUSY]))
    assert found[1][0] == 1
    assert found[2][0] > 1
    assert found[3][0] >= 3


def test_a_backlog_counts_when_it_comes_and_not_again_while_it_is_read() -> None:
    burst = [load(backlog_s=10.0), *(load(backlog_s=10.0 - n, read_s=1.0) for n in range(1, 10))]
    found = list(walk([QUIET, *burst, QUIET]))
    arrived = sum(slot.reading_s for slot in found[-1].state.slots)
    assert arrived == pytest.approx(10.0, rel=0.15)


def test_the_same_load_gives_the_same_number_for_ever() -> None:
    found = wanted(walk([load(read_s=2.1, sequences=35)] * 400))
    assert len(set(found[130:])) == 1


def test_one_worker_fewer_needs_hold_s_of_proof_and_then_the_window_must_forget() -> None:
    found = wanted(walk([BUSY] * 600 + [load(read_s=0.4)] * 300))
    prefill = [each[0] for each in found]
    peak, last = max(prefill), prefill[-1]
    assert (peak, last) == (4, 1)
    first_down = next(index for index in range(600, len(prefill)) if prefill[index] < peak)
    assert first_down >= 600 + SETTINGS.hold_s
    changes = [after - before for before, after in pairwise(prefill[600:]) if after != before]
    assert all(change < 0 for change in changes)


def test_a_load_that_swings_within_the_band_changes_nothing() -> None:
    """Between what N - 1 would hold with half of the allowance and what N holds with all of it."""
    rng = random.Random(7)
    swinging = [load(read_s=2.2 + rng.uniform(-0.3, 0.3), sequences=14 + rng.randrange(3)) for _ in range(600)]
    prefill, decode = zip(*wanted(walk(swinging))[60:], strict=True)
    assert len(set(prefill)) == 1
    assert len(set(decode)) == 1


@pytest.mark.parametrize(("every", "stays"), [(5, 2), (10, 1)])
def test_fewer_must_miss_clearly_less_than_is_allowed(every: int, stays: int) -> None:
    """A burst every so many looks: one reader would miss between four fifths and all of what is allowed, or less."""
    settings = replace(SETTINGS, miss_share=0.2)
    bursts = [load(read_s=2.0 if n % every == 0 else 0.2, prefill=Crew(ready=2)) for n in range(500)]
    verdicts = [each.prefill for each in walk(bursts, settings)][-40:]
    for verdict in verdicts:
        assert verdict is not None
        assert (verdict.need, verdict.desired) == (1, stays), "one is enough to be asked for, and not to be proven"
        missed = {trial.workers: trial.missed for trial in verdict.trials}
        assert stays == 1 or 0.8 * settings.miss_share < missed[1] <= settings.miss_share


def test_a_missing_signal_changes_nothing_and_starts_the_wait_for_fewer_anew() -> None:
    idle = load(read_s=0.1)
    settings = replace(SETTINGS, window_s=20.0)
    seen = [BUSY] * 30 + [idle] * 80
    blind = [each for pair in zip([idle] * 80, [None] * 80, strict=True) for each in pair]
    lowered, held = wanted(walk(seen, settings)), wanted(walk([BUSY] * 30 + blind, settings))
    assert lowered[-1][0] < lowered[29][0]
    assert held[-1][0] == held[29][0] == lowered[29][0]
    first_down = next(index for index in range(30, len(lowered)) if lowered[index][0] < lowered[29][0])
    anew = [*seen[: first_down - 1], None, *[idle] * round(SETTINGS.hold_s / 2)]
    assert wanted(walk(anew, settings))[-1][0] == lowered[29][0], "one look too few before the proof was whole"


def test_what_leaves_is_what_was_not_needed_at_any_look_of_the_proof() -> None:
    """Nearly all of it needed three, the end of it one: three stay."""
    settings = replace(SETTINGS, window_s=5.0)
    found = wanted(walk([BUSY] * 200 + [load(read_s=2.0)] * round(SETTINGS.hold_s - 8) + [QUIET] * 20, settings))
    before, *later = [each[0] for each in found[199:]]
    first_down = next(each for each in later if each < before)
    assert 1 < first_down < before


def test_blindness_from_the_start_decides_nothing() -> None:
    (first,) = walk([None])
    assert first.prefill is None
    assert first.of(Role.DECODE) is None


def test_the_first_look_keeps_what_there_is() -> None:
    (first,) = walk([load(prefill=Crew(ready=2, starting=1), decode=Crew(ready=5))])
    assert wanted([first]) == [(3, 5)]


@pytest.mark.parametrize("seed", range(20))
def test_more_load_never_asks_for_fewer(seed: int) -> None:
    """Monotone: the same history with every look heavier by a factor never gets fewer workers."""
    rng = random.Random(seed)
    factor = rng.randrange(2, 5)
    light = [(rng.expovariate(1.0), rng.randrange(40)) for _ in range(80)]
    heavy = [(read * factor, sequences * factor) for read, sequences in light]

    def needs(history: list[tuple[float, int]]) -> list[tuple[int, int]]:
        looks = walk(load(read_s=read, sequences=sequences) for read, sequences in history)
        return [(each.prefill.need or 0, each.decode.need or 0) for each in looks if each.prefill and each.decode]

    for few, many in zip(needs(light), needs(heavy), strict=True):
        assert few[0] <= many[0], f"seed {seed}"
        assert few[1] <= many[1], f"seed {seed}"


def test_reading_that_waits_for_decode_does_not_grow_prefill() -> None:
    """Prompts that waited when they came are not a new need at every look."""
    stuck = load(backlog_s=4.0, sequences=60, queued=40, admission_s=5.0, causes=frozenset({Cause.DECODE_FULL}))
    found = wanted(walk([QUIET, *[stuck] * 60]))
    assert found[-1][0] <= 3
    assert found[-1][1] == 5


def test_those_that_are_coming_may_be_what_a_place_is_waited_for() -> None:
    """One more than there are, once: not one more than was asked for a look ago, at every look until the first came."""

    def short(crew: Crew) -> Load:
        causes = frozenset({Cause.DECODE_FULL})
        return load(sequences=12, queued=2, admission_s=5.0, causes=causes, decode=crew)

    looks = [short(Crew(ready=2))] * 3 + [short(Crew(ready=2, starting=1))] * 60
    assert [each[1] for each in wanted(walk([load(decode=Crew(ready=2)), *looks]))][3:] == [3] * 61


def test_one_burst_among_many_hours_of_others_does_not_decide_alone() -> None:
    """Bursts alike, then one of twice their size: what it alone would need is within the allowance."""
    settings = replace(SETTINGS, window_s=3600.0, miss_share=0.2, ttft_s=5.0, hold_s=20.0)
    quiet, small, large = [load()] * 20, [load(read_s=4.0)] * 10, [load(read_s=8.0)] * 10
    one = [pair[0] for pair in wanted(walk([*quiet, *large, *quiet, *quiet], settings))]
    many = [pair[0] for pair in wanted(walk([*(quiet + small) * 8, *quiet, *large, *quiet, *quiet], settings))]
    assert many[-1] < one[-1]


def test_a_quiet_past_is_no_licence_to_be_late_now() -> None:
    """Minutes of little, then four workers' load: what is late is a share of what is like now."""
    settings = replace(SETTINGS, window_s=3600.0, miss_share=0.1)
    night = [load(read_s=1.0)] * 400
    found = wanted(walk([*night, *[load(read_s=3.5)] * 60], settings))
    assert found[-1][0] >= 4


def test_a_lull_between_bursts_is_no_ebb() -> None:
    """Bursts every minute, seven minutes long; then two minutes of nothing: they may come back."""
    settings = replace(SETTINGS, window_s=3600.0, miss_share=0.1, hold_s=60.0)
    bursts = [*[load(read_s=8.0)] * 10, *[load()] * 50] * 7
    found = [pair[0] for pair in wanted(walk([*bursts, *[load()] * 120], settings))]
    assert found[-1] >= found[len(bursts) - 1] - 1


def test_a_past_of_one_burst_is_not_all_that_may_come() -> None:
    """The first of a kind asks for more than the twentieth."""
    settings = replace(SETTINGS, interval_s=5.0, ttft_s=10.0, window_s=3600.0, miss_share=0.1, hold_s=20.0)
    quiet, burst = [load()] * 20, [load(read_s=4.0)] * 4
    once = wanted(walk([*quiet, *burst, *[load()] * 12], settings))
    often = wanted(walk([*(quiet + burst) * 20, *[load()] * 12], settings))
    assert once[-1][0] > often[-1][0] >= 3


def test_a_tide_is_met_where_it_will_be_when_a_worker_is_ready() -> None:
    """Load that rises by a worker in five minutes: with two minutes' lead each is asked for earlier."""
    settings = replace(SETTINGS, interval_s=5.0, ttft_s=10.0, window_s=3600.0, miss_share=0.1)
    tide = [load(read_s=1.0 + max(0, second - 600) / 300) for second in range(0, 1800, 5)]
    early, late = (
        [pair[0] for pair in wanted(walk(tide, replace(settings, lead_s=lead_s)))] for lead_s in (120.0, 0.0)
    )
    assert early.index(4) + 6 < late.index(4)


def test_a_decode_worker_leaves_only_where_nobody_would_have_waited_for_it() -> None:
    """Nine sequences on one worker are six hundredths too many, which is within the allowance, and a queue all day."""
    settings = replace(SETTINGS, window_s=600.0, miss_share=0.1)
    pair = Crew(ready=2)
    two = wanted(walk([load(sequences=9, decode=pair)] * 200, settings))
    assert two[-1][1] == 2
    assert wanted(walk([load(sequences=8, decode=pair)] * 200, settings))[-1][1] == 1


def test_what_decode_workers_read_is_demand() -> None:
    """Nothing waits, so nothing says that they would read more: all of it is asked of prefill."""
    found = wanted(walk([load(read_s=0.5), *[load(read_s=0.5, local_s=2.0)] * 20]))
    assert found[-1][0] == 3


def test_what_decode_workers_have_to_spare_need_not_be_read_by_prefill() -> None:
    crew = Crew(ready=2)
    settings = replace(SETTINGS, prefill=Bounds(least=1, most=40), decode=Bounds(least=2, most=8))
    waiting = [load(read_s=1.0, local_s=1.6, backlog_s=30.0, decode=crew, sequences=2)] * 25
    silent = [load(read_s=2.6, local_s=0.0, backlog_s=30.0, decode=crew, sequences=2)] * 25
    helped, alone = list(walk(waiting, settings))[-1], list(walk(silent, settings))[-1]
    assert helped.decode is not None
    assert alone.decode is not None
    assert helped.prefill is not None
    assert alone.prefill is not None
    assert helped.decode.desired == alone.decode.desired == 2
    assert helped.state.gauge.uptake.share > 0.9
    assert alone.state.gauge.uptake.share == 0.0
    assert helped.prefill.desired < alone.prefill.desired


def test_decode_that_turns_requests_away_is_short_whatever_its_pages_say() -> None:
    full = load(sequences=3, queued=1, admission_s=3.0, causes=frozenset({Cause.DECODE_FULL}), decode=Crew(ready=2))
    assert wanted(walk([QUIET, *[full] * 20]))[-1][1] >= 3


def test_decode_follows_pages_as_well_as_sequences() -> None:
    assert wanted(walk([load(sequences=2, pages_used=300, pages_each=100)] * 3))[-1][1] == 4


def test_workers_that_are_cold_do_not_make_the_fleet_look_slow() -> None:
    """Nobody warm tells a cost: the last one that was known holds."""
    found = wanted(walk([load(read_s=0.5)] * 5 + [load(read_s=0.5, cost=None, prefill=Crew(starting=1))] * 30))
    assert set(found) == {(1, 1)}


def test_the_pair_goes_to_none_together_and_wakes_together() -> None:
    settings = replace(SETTINGS, prefill=Bounds(least=0, most=8), decode=Bounds(least=0, most=8))
    asleep = [load(prefill=Crew(), decode=Crew())] * 3
    waiting = load(sequences=1, queued=1, prefill=Crew(), decode=Crew())
    found = list(walk([load(read_s=0.2, sequences=1)] * 5 + [QUIET] * 70 + asleep + [waiting] * 2, settings))
    pairs = wanted(found)
    assert pairs[60] == (1, 1)
    assert pairs[74] == (0, 0)
    assert pairs[-1] == (1, 1)
    assert found[-2].decode is not None
    assert found[-2].decode.why is Why.WOKEN
    assert all((prefill == 0) == (decode == 0) for prefill, decode in pairs)


def test_nobody_goes_to_none_unless_both_may() -> None:
    settings = replace(SETTINGS, decode=Bounds(least=0, most=8))
    assert wanted(walk([QUIET] * 100, settings))[-1] == (1, 1)


def test_a_step_up_is_large_enough_for_an_hpa_to_notice() -> None:
    settings = replace(SETTINGS, prefill=Bounds(least=20, most=40), hpa_tolerance=0.1)
    found = wanted(walk([load(read_s=1.0)] * 3 + [load(read_s=21.0)] * 40, settings))
    assert found[2][0] == 20
    assert not {21, 22} & {each[0] for each in found}
    assert found[-1][0] > 22


def test_a_verdict_tells_what_fewer_would_have_missed() -> None:
    verdict = list(walk([load(read_s=0.3)] * 3 + [BUSY] * 10))[-1].prefill
    assert verdict is not None
    fewer = {trial.workers: trial.missed for trial in verdict.trials}
    assert fewer[verdict.desired - 1] > SETTINGS.miss_share
    assert fewer[verdict.desired] <= SETTINGS.miss_share


def test_bounds_hold_whatever_comes() -> None:
    rng = random.Random(3)
    loads = [load(read_s=rng.uniform(0, 50), sequences=rng.randrange(500)) for _ in range(60)]
    for prefill, decode in wanted(walk(loads)):
        assert 1 <= prefill <= 8
        assert 1 <= decode <= 8


def test_state_does_not_grow_without_bound() -> None:
    last = list(walk([load(read_s=1.0)] * 400))[-1]
    assert len(last.state.slots) <= SETTINGS.window_s / SETTINGS.interval_s
    assert COST.num_steps == last.state.gauge.reading_cost.num_steps
