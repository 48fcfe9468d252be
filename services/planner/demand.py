"""Load in units of work, so that a past of it can be tried on other numbers of workers.

reading: seconds that one worker would read at what arrived since the last look, by the cost model. Tokens that a cache
         had are in neither term, so the hit rate is in it.
writing: workers' worth of decode, the largest of: sequences over those of a step below itl_s, sequences over places,
         pages over pages; and, while a place is waited for too long, one more than there are.
"""

from dataclasses import dataclass

from common.core.cost.model import DEFAULT, CostModel
from common.core.queue import Cause
from services.planner.load import Load, Reading, Writing
from services.planner.settings import PlannerSettings

USUAL_PROMPT = 512.0
"""Chosen: before anything was seen to wait."""

LEARNING = 0.2
"""Chosen: weight of the newest look in the mean length of a prompt."""

CHUNK_TOKENS = 2048
"""Chosen: of a prefill step; only the share of a step's fixed cost depends on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What came within `seconds` before a look. `reading_s`: of reading; `writers`: workers' worth of decode."""

    seconds: float
    reading_s: float
    writers: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """What is remembered from look to look. `debt_s`: reading that was counted when it came and is being measured again
    while it is read, as rates lag behind; never above 0. `at` None: the last look saw nothing."""

    at: float | None = None
    backlog_s: float = 0.0
    debt_s: float = 0.0
    tokens_each: float = USUAL_PROMPT
    reading_cost: CostModel = DEFAULT
    writing_cost: CostModel = DEFAULT


def measure(load: Load, gauge: Gauge, at: float, settings: PlannerSettings) -> tuple[Slot | None, Gauge]:
    """The newest slot, None at the first look after a gap; and what to remember."""
    reading = load.reading
    tokens_each = gauge.tokens_each
    if reading.tokens_each is not None:
        tokens_each += LEARNING * (reading.tokens_each - tokens_each)
    reading_cost = reading.cost or gauge.reading_cost
    writing_cost = load.writing.cost or gauge.writing_cost
    second_s = token_seconds(reading_cost, tokens_each)
    backlog_s = reading.backlog_tokens * second_s
    writers = writers_needed(load.writing, writing_cost, settings)
    seconds = 0.0 if gauge.at is None else at - gauge.at
    if seconds <= 0:
        arrived_s = debt_s = 0.0
    else:
        net_s = backlog_s - gauge.backlog_s + reading.read_tokens_s * second_s * seconds + gauge.debt_s
        arrived_s, debt_s = max(0.0, net_s), _bounded_debt(net_s, reading, seconds)
    remembered = Gauge(
        at=at,
        backlog_s=backlog_s,
        debt_s=debt_s,
        tokens_each=tokens_each,
        reading_cost=reading_cost,
        writing_cost=writing_cost,
    )
    return (Slot(seconds=seconds, reading_s=arrived_s, writers=writers) if seconds > 0 else None), remembered


def token_seconds(cost: CostModel, tokens_each: float) -> float:
    """Seconds of reading per token of a prompt of this length."""
    tokens = max(1, round(tokens_each))
    return cost.prefill_seconds(tokens, chunk_tokens=CHUNK_TOKENS) / tokens


def writers_needed(writing: Writing, cost: CostModel, settings: PlannerSettings) -> float:
    """How many decode workers would be exactly full."""
    found = writing.sequences / sequences_each(writing, cost, settings)
    if writing.pages_each:
        held = writing.running or 1
        waiting = max(0, writing.sequences - writing.running)
        found = max(found, writing.pages_used * (1 + waiting / held) / writing.pages_each)
    if is_waited_for(writing, settings):
        found = max(found, writing.crew.coming * settings.load_target + 1.0)
    return found


def sequences_each(writing: Writing, cost: CostModel, settings: PlannerSettings) -> int:
    """What one worker writes at a time: within the step time that was promised, and within its places."""
    each = cost.max_batch(settings.itl_s, writing.context_tokens / writing.running if writing.running else 0.0)
    return min(each, writing.places_each) if writing.places_each else each


def is_waited_for(writing: Writing, settings: PlannerSettings) -> bool:
    """Workers turn requests away, whatever their pages say: llm-d's average hid one worker at 95 % behind 11 %."""
    is_late = writing.admission_s is not None and writing.admission_s > settings.admission_s
    return writing.queued > 0 and is_late and Cause.DECODE_FULL in writing.causes


def _bounded_debt(net_s: float, reading: Reading, seconds: float) -> float:
    """Rates are means of a few seconds, so no debt is older."""
    most = 10.0 * max(1, reading.crew.coming) * seconds
    return min(0.0, max(net_s, -most))
