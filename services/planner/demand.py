"""Load in units of work, so that a past of it can be tried on other numbers of workers.

reading: seconds that one worker would read at what arrived since the last look, by the cost model, whichever role's
         workers read it. Tokens that a cache had are in neither term, so the hit rate is in it.
writing: workers' worth of decode, the largest of: sequences over those of a step below itl_s, sequences over places,
         pages over pages; and, while a place is waited for too long, one more than there are.

Each slot knows the level at which it came: a mean of minutes (level.py). A past of bursts so says what bursts are
like, and the present level how much of them: what was seen at noon is not held against the night, and what was seen
at night says nothing of noon. Levels that differ by no more than chance may be the same one. The present is that of
the moment at which a worker that is asked for now will be ready. And a past of few bursts is not all that may come: it
counts as more by as much as its mean may be out by.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from common.core.cost.model import DEFAULT, CostModel
from common.core.queue import Cause
from services.planner.lending import Answers, Uptake, answers_of
from services.planner.level import Level
from services.planner.load import Load, Reading, Writing
from services.planner.settings import PlannerSettings

USUAL_PROMPT = 512.0
"""Chosen: before anything was seen to wait."""

LEARNING = 0.2
"""Chosen: weight of the newest look in the mean length of a prompt, and in the mean number of pages of a sequence."""

MOST_DOUBT = 1.0
"""Chosen: what a short past may be out by makes it count twice at most: two blocks that differ tell little."""

ALIKE = 1.5
"""Chosen: a past at less than the present level by this factor is left out of what is tried: most of a tide that comes
in would else be a quiet past, in which nothing was late, and a share of it a licence to be late now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What came within `seconds` before a look. `reading_s`: of reading; `writers`: workers' worth of decode, `answers`
    what they take of steps. Levels: reading per second, and writers, in the mean at that time; `is_young`: when little
    was seen."""

    seconds: float
    reading_s: float
    writers: float
    answers: Answers = field(default_factory=Answers)
    reading_level: float = 0.0
    writing_level: float = 0.0
    is_young: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One role's work, slot by slot, in worker-seconds, as it would come at the present level; empty slots are joined.
    `lent`: workers' worth that the other role does of it."""

    seconds: tuple[float, ...]
    work: tuple[float, ...]
    lent: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Workers' worth of this role in the mean."""
        seconds = sum(self.seconds)
        lent = sum(each * lasted for each, lasted in zip(self.lent, self.seconds, strict=True))
        return (sum(self.work) - lent) / seconds if seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """What is remembered from look to look. `debt_s`: reading that was counted when it came and is being measured again
    while it is read, as rates lag behind; never above 0. `at` None: the last look saw nothing. `pages_each` and
    `places_each` of a decode worker, 0 until one told, and `pages_of_one` sequence: when all have gone, whoever comes
    will be like them."""

    at: float | None = None
    backlog_s: float = 0.0
    debt_s: float = 0.0
    tokens_each: float = USUAL_PROMPT
    reading_level: Level = field(default_factory=Level)
    writing_level: Level = field(default_factory=Level)
    uptake: Uptake = field(default_factory=Uptake)
    reading_cost: CostModel = DEFAULT
    writing_cost: CostModel = DEFAULT
    pages_each: int = 0
    places_each: int = 0
    pages_of_one: float = 0.0


def measure(load: Load, gauge: Gauge, at: float, settings: PlannerSettings) -> tuple[Slot | None, Gauge]:
    """The newest slot, None at the first look after a gap; and what to remember."""
    reading, writing = load.reading, _with_room(load.writing, gauge)
    pages_of_one = _pages_of_one(writing, gauge)
    tokens_each = gauge.tokens_each
    if reading.tokens_each is not None:
        tokens_each += LEARNING * (reading.tokens_each - tokens_each)
    reading_cost = reading.cost or gauge.reading_cost
    writing_cost = writing.cost or gauge.writing_cost
    second_s = token_seconds(reading_cost, tokens_each, settings)
    answers = answers_of(writing, writing_cost, settings.step_budget_s)
    spare = answers.spare(writing.crew.coming)
    readers = max(1.0, reading.crew.coming + gauge.uptake.share * spare)
    readable = readers * settings.ttft_s / max(tokens_each * second_s, 1e-6)
    writers = writers_needed(writing, writing_cost, settings, readable=readable, pages_of_one=pages_of_one)
    seconds = 0.0 if gauge.at is None else at - gauge.at
    came = _arrivals(reading, gauge, second_s=second_s, seconds=seconds, settings=settings)
    uptake = gauge.uptake
    if min(came.backlog_s, gauge.backlog_s) > reading.crew.coming * seconds > 0.0:
        uptake = uptake.watched(reading.local_read_tokens_s * second_s, spare, seconds)
    reading_level, writing_level = gauge.reading_level, gauge.writing_level
    if seconds > 0:
        reading_level = reading_level.after(came.reading_s / seconds, seconds)
        writing_level = writing_level.after(writers, seconds)
    remembered = Gauge(
        at=at,
        reading_level=reading_level,
        writing_level=writing_level,
        backlog_s=came.backlog_s,
        debt_s=came.debt_s,
        tokens_each=tokens_each,
        uptake=uptake,
        reading_cost=reading_cost,
        writing_cost=writing_cost,
        pages_each=writing.pages_each,
        places_each=writing.places_each,
        pages_of_one=_learnt(gauge.pages_of_one, pages_of_one),
    )
    if seconds <= 0:
        return None, remembered
    slot = Slot(
        seconds=seconds,
        reading_s=came.reading_s,
        writers=writers,
        answers=answers,
        reading_level=reading_level.now,
        writing_level=writing_level.now,
        is_young=reading_level.is_young,
    )
    return slot, remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrivals:
    """Seconds of reading that came since the last look; those that wait, and the debt, are for the next one."""

    reading_s: float
    backlog_s: float
    debt_s: float


def _arrivals(
    reading: Reading, gauge: Gauge, *, second_s: float, seconds: float, settings: PlannerSettings
) -> _Arrivals:
    """By what waits now and did then, and by what was read meanwhile. `second_s`: of reading, per token."""
    backlog_s = reading.all_backlog_tokens * second_s
    if seconds <= 0:
        # More than was known, and than is read in time, came while nobody looked: the next look counts it as come.
        known_s = max(gauge.backlog_s, reading.crew.ready * settings.ttft_s)
        return _Arrivals(reading_s=0.0, backlog_s=min(backlog_s, known_s), debt_s=0.0)
    net_s = backlog_s - gauge.backlog_s + reading.all_read_tokens_s * second_s * seconds + gauge.debt_s
    return _Arrivals(reading_s=max(0.0, net_s), backlog_s=backlog_s, debt_s=_bounded_debt(net_s, reading, seconds))


def past_reading(slots: Sequence[Slot], gauge: Gauge, *, writers: int, lead_s: float) -> Past:
    """Seconds of reading as they would come at the level of `lead_s` from now, and as much more as a past so short and
    uneven may be out by; so many decode workers help."""
    share, least = gauge.uptake.share, gauge.reading_level.least
    doubted = 1.0 + min(gauge.reading_level.error, MOST_DOUBT)
    reading, writing = gauge.reading_level.present(lead_s), gauge.writing_level.present(lead_s)
    return _past(
        (
            slot.seconds,
            slot.reading_s * doubted * reading.scale(slot.reading_level, was_young=slot.is_young),
            share * slot.answers.spare(writers, scale=writing.scale(slot.writing_level, was_young=slot.is_young))
            if share
            else 0.0,
        )
        for slot in slots
        if slot.reading_level * ALIKE >= least
    )


def past_writing(slots: Sequence[Slot], gauge: Gauge, *, lead_s: float) -> Past:
    """Workers' worth of decode at that level. Answers come evenly, so nothing is added for doubt."""
    least, writing = gauge.writing_level.least, gauge.writing_level.present(lead_s)
    return _past(
        (
            slot.seconds,
            slot.seconds * slot.writers * writing.scale(slot.writing_level, was_young=slot.is_young),
            0.0,
        )
        for slot in slots
        if slot.writing_level * ALIKE >= least
    )


def _past(slots: Iterable[tuple[float, float, float]]) -> Past:
    seconds: list[float] = []
    works: list[float] = []
    lents: list[float] = []
    for lasted, work, lent in slots:
        if works and not work and not works[-1]:
            lents[-1] = (lents[-1] * seconds[-1] + lent * lasted) / (seconds[-1] + lasted)
            seconds[-1] += lasted
        else:
            seconds.append(lasted)
            works.append(work)
            lents.append(lent)
    return Past(seconds=tuple(seconds), work=tuple(works), lent=tuple(lents))


def token_seconds(cost: CostModel, tokens_each: float, settings: PlannerSettings) -> float:
    """Seconds that a worker with a queue reads per token of a prompt of this length: its steps are shared."""
    tokens, together = max(1, round(tokens_each)), settings.prompts_together
    seconds = cost.prefill_seconds(tokens, chunk_tokens=settings.chunk_tokens, num_prompts=together)
    return seconds / (together * tokens)


def writers_needed(
    writing: Writing, cost: CostModel, settings: PlannerSettings, *, readable: float, pages_of_one: float
) -> float:
    """How many decode workers would be exactly full. `readable`: prompts that prefill can read within ttft_s."""
    waiting = writing.sequences - writing.running
    wanted = writing.running + min(waiting, readable)
    found = wanted / sequences_each(writing, cost, settings)
    if writing.pages_each:
        found = max(found, pages_of_one * wanted / writing.pages_each)
    if is_waited_for(writing, settings) and waiting <= readable:
        # Those that are coming may be what the place is waited for: only one more than can take work now.
        found = max(found, (writing.crew.ready + 1) * settings.load_target)
    return found


def sequences_each(writing: Writing, cost: CostModel, settings: PlannerSettings) -> int:
    """What one worker writes at a time: within the step time that was promised, and within its places."""
    each = cost.max_batch(settings.itl_s, writing.context_tokens / writing.running if writing.running else 0.0)
    return min(each, writing.places_each) if writing.places_each else each


def is_waited_for(writing: Writing, settings: PlannerSettings) -> bool:
    """Workers turn requests away, whatever their pages say: llm-d's average hid one worker at 95 % behind 11 %."""
    is_late = writing.admission_s is not None and writing.admission_s > settings.admission_s
    return writing.queued > 0 and is_late and Cause.DECODE_FULL in writing.causes


def _with_room(writing: Writing, gauge: Gauge) -> Writing:
    """With what a worker has room for as it was last told, where nobody is there to tell."""
    return replace(
        writing,
        pages_each=writing.pages_each or gauge.pages_each,
        places_each=writing.places_each or gauge.places_each,
    )


def _pages_of_one(writing: Writing, gauge: Gauge) -> float:
    """Now, if any sequence has its pages; else as it was in the mean."""
    placed = writing.sequences - writing.queued
    return writing.pages_used / placed if placed else gauge.pages_of_one


def _learnt(mean: float, newest: float) -> float:
    return mean + LEARNING * (newest - mean) if mean else newest


def _bounded_debt(net_s: float, reading: Reading, seconds: float) -> float:
    """Rates are means of a few seconds, so no debt is older."""
    most = 10.0 * max(1, reading.crew.coming) * seconds
    return min(0.0, max(net_s, -most))
