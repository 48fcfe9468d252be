"""How many workers of each role there should be. Pure: signals, state and settings in, a recommendation out.

    look -> slot of demand -> window of slots -> the fewest workers that would have held it -> hysteresis -> desired

Up at once, to what the window needs. Down only after a smaller number, tried on the window with less of the allowance
for late work, was enough at every look of hold_s; then to the largest of those numbers. A look that sees nothing
changes nothing, and starts that wait anew. Both roles are decided from one look: reading that waits because decode is
full counts once, when it comes, so prefill does not grow for a shortage of decode; and what decode workers have
to spare is reading that prefill need not do, so decode is judged first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from common.core.worker import Role
from services.planner.demand import Gauge, Past, Slot, measure, past_reading, past_writing
from services.planner.load import Load, Signals
from services.planner.settings import PlannerSettings
from services.planner.trial import Attempts, Trial, least_workers, reading_missed, writing_crowded, writing_missed

STRICTER = 0.8
"""Chosen: share of the allowance for late work that fewer workers must keep: the band in which nothing changes. Half
would mean that a fleet which once grew is held to half of the allowance for as long as the window remembers why."""

SUSTAINED_S = 120.0
"""Chosen: a load that lasts twice as long as a start is no burst."""

ROUNDING = 0.02
"""Chosen: a fiftieth of a worker more than what is there is no reason for one more."""

MAX_SLOTS = 3600
"""As many looks as window_s and interval_s may ask for; older ones go."""


class Why(StrEnum):
    """What a verdict rests on."""

    FIRST = "first"
    """What was found at the first look."""
    ENOUGH = "enough"
    NEEDED = "needed"
    """Fewer would have served too much of the window too late."""
    CONSOLIDATED = "consolidated"
    """Fewer were enough at every look of hold_s."""
    WAITING = "waiting"
    """Fewer would be enough now; not for long enough yet."""
    BLIND = "blind"
    """A signal is missing: held."""
    IDLE = "idle"
    """Nobody asked for idle_s: none, of both roles."""
    WOKEN = "woken"
    """Somebody waits, and there is nobody: one of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One role. `need`: what the window asks for. `trials`: the numbers tried, with what each would have missed."""

    role: Role
    desired: int
    before: int | None
    why: Why
    need: int | None = None
    load: float | None = None
    trials: tuple[Trial, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One role's desired workers, and since when, and with how many at most, fewer would have been enough."""

    desired: int
    fewer_since: float | None = None
    fewer_peak: int = 0

    @property
    def staying(self) -> int:
        """Those that stay even if the proof goes on: what others may count on."""
        return self.desired if self.fewer_since is None else self.fewer_peak


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What `decide` needs of earlier looks. `busy_at`: the last look with a request anywhere."""

    slots: tuple[Slot, ...] = ()
    gauge: Gauge = field(default_factory=Gauge)
    prefill: Standing | None = None
    decode: Standing | None = None
    busy_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """`prefill` and `decode` None: nothing was ever seen."""

    at: float
    prefill: Verdict | None
    decode: Verdict | None
    state: State

    def of(self, role: Role) -> Verdict | None:
        return self.prefill if role is Role.PREFILL else self.decode


def decide(signals: Signals, state: State, settings: PlannerSettings) -> Recommendation:
    """The next recommendation. Its `state` is what the next call is given."""
    load, at = signals.load, signals.at
    if load is None:
        return _blind(at, state)
    slot, gauge = measure(load, state.gauge, at, settings)
    slots = _within(state.slots if slot is None else (*state.slots, slot), settings.window_s)
    is_busy = bool(load.writing.sequences or load.reading.all_backlog_tokens or load.reading.all_read_tokens_s)
    busy_at = at if is_busy or state.busy_at is None else state.busy_at
    is_idle = settings.may_be_none and not is_busy and at - busy_at >= settings.idle_s

    own_s = gauge.reading_cost.prefill_seconds(round(gauge.tokens_each), chunk_tokens=settings.chunk_tokens)
    wait_s = max(settings.ttft_s - own_s, 0.1)
    lead_s = settings.lead_s
    writing = past_writing(slots, gauge, lead_s=lead_s)

    def writes(workers: int) -> float:
        return writing_missed(writing, workers, load_target=settings.load_target)

    def crowds(workers: int) -> float:
        return writing_crowded(writing, workers, load_target=settings.load_target)

    lately = _within(slots, SUSTAINED_S)
    least_writers = _sustained(past_writing(lately, gauge, lead_s=lead_s), settings)
    attempts = Attempts(to_grow=writes, to_shrink=crowds)
    decode, standing_decode = _judge(
        Role.DECODE, attempts, load, state.decode, at, settings, at_least=least_writers, is_idle=is_idle
    )
    staying = standing_decode.staying
    reading = past_reading(slots, gauge, writers=staying, lead_s=lead_s)

    def reads(workers: int) -> float:
        return reading_missed(reading, workers, wait_s=wait_s)

    least_readers = _sustained(past_reading(lately, gauge, writers=staying, lead_s=lead_s), settings)
    attempts = Attempts(to_grow=reads, to_shrink=reads)
    prefill, standing_prefill = _judge(
        Role.PREFILL, attempts, load, state.prefill, at, settings, at_least=least_readers, is_idle=is_idle
    )
    newest = slot or Slot(seconds=1.0, reading_s=0.0, writers=0.0)
    lent = gauge.uptake.share * newest.answers.spare(load.writing.crew.ready)
    after = State(slots=slots, gauge=gauge, prefill=standing_prefill, decode=standing_decode, busy_at=busy_at)
    return Recommendation(
        at=at,
        prefill=replace(prefill, load=_share(newest.reading_s / newest.seconds, load.reading.crew.ready + lent)),
        decode=replace(decode, load=_share(newest.writers, load.writing.crew.ready)),
        state=after,
    )


def _blind(at: float, state: State) -> Recommendation:
    """Held as it is. The wait for fewer begins anew, and nothing is measured across the gap."""

    def held(role: Role, standing: Standing | None) -> Verdict | None:
        if standing is None:
            return None
        return Verdict(role=role, desired=standing.desired, before=standing.desired, why=Why.BLIND)

    def waiting_anew(standing: Standing | None) -> Standing | None:
        return None if standing is None else Standing(desired=standing.desired)

    after = replace(
        state,
        gauge=replace(state.gauge, at=None, debt_s=0.0),
        prefill=waiting_anew(state.prefill),
        decode=waiting_anew(state.decode),
        busy_at=None,
    )
    return Recommendation(
        at=at, prefill=held(Role.PREFILL, state.prefill), decode=held(Role.DECODE, state.decode), state=after
    )


def _judge(
    role: Role,
    attempts: Attempts,
    load: Load,
    standing: Standing | None,
    at: float,
    settings: PlannerSettings,
    *,
    at_least: int,
    is_idle: bool,
) -> tuple[Verdict, Standing]:
    bounds = settings.bounds(role)
    crew = load.reading.crew if role is Role.PREFILL else load.writing.crew
    before = None if standing is None else standing.desired
    if is_idle:
        return Verdict(role=role, desired=0, before=before, why=Why.IDLE, need=0), Standing(desired=0)
    least = min(max(bounds.least, at_least, 1), bounds.most)
    guess = crew.coming if standing is None else standing.desired
    need, trials = least_workers(
        attempts.to_grow, least=least, most=bounds.most, allowed=settings.miss_share, guess=guess
    )
    if standing is None:
        first = min(max(crew.coming, need), bounds.most)
        return Verdict(role=role, desired=first, before=None, why=Why.FIRST, need=need), Standing(desired=first)
    now = standing.desired
    if need > now:
        why = Why.WOKEN if now == 0 else Why.NEEDED
        desired = min(max(need, _noticed(now, settings.hpa_tolerance)), bounds.most)
        return Verdict(role=role, desired=desired, before=now, why=why, need=need, trials=trials), Standing(
            desired=desired
        )
    allowed = settings.miss_share * STRICTER
    fewer, stricter = least_workers(attempts.to_shrink, least=min(least, now), most=now, allowed=allowed, guess=need)
    next_standing, why = _lowered(standing, fewer, at, settings.hold_s)
    tried = tuple({trial.workers: trial for trial in (*trials, *stricter)}.values())
    return Verdict(
        role=role, desired=next_standing.desired, before=now, why=why, need=need, trials=tried
    ), next_standing


def _sustained(past: Past, settings: PlannerSettings) -> int:
    """What the last SUSTAINED_S took, whatever the past says: a tide that comes in, or a level never seen before."""
    if sum(past.seconds) < SUSTAINED_S / 4:
        return 0
    return math.ceil(past.mean / settings.load_target - ROUNDING)


def _lowered(standing: Standing, fewer: int, at: float, hold_s: float) -> tuple[Standing, Why]:
    """Fewer only after fewer were enough all the time; then the most of what was enough."""
    if fewer >= standing.desired:
        return Standing(desired=standing.desired), Why.ENOUGH
    since = at if standing.fewer_since is None else standing.fewer_since
    peak = max(fewer, standing.fewer_peak)
    if at - since < hold_s:
        return Standing(desired=standing.desired, fewer_since=since, fewer_peak=peak), Why.WAITING
    return Standing(desired=peak), Why.CONSOLIDATED


def _noticed(workers: int, tolerance: float) -> int:
    """The smallest step up from `workers` that an HPA with this tolerance does not ignore."""
    return int(workers * (1 + tolerance)) + 1


def _within(slots: Sequence[Slot], window_s: float) -> tuple[Slot, ...]:
    left, first = window_s, len(slots)
    while first > 0 and left > 0 and len(slots) - first < MAX_SLOTS:
        first -= 1
        left -= slots[first].seconds
    return tuple(slots[first:])


def _share(asked: float, ready: float) -> float | None:
    return asked / ready if ready else None
