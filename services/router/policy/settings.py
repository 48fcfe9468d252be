"""What the policy is told once: weights of the terms, and the limits that workers work under."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from common.core.request import Priority

POLICY_VERSION = "cost-13"
"""Changes whenever the same inputs may give another decision."""


class Routes(StrEnum):
    """Which kinds of route may be chosen."""

    ANY = "any"
    LOCAL = "local"
    REMOTE = "remote"


def _itl_targets() -> dict[Priority, float]:
    return {Priority.INTERACTIVE: 0.1, Priority.STANDARD: 0.2, Priority.BATCH: 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """Weights turn waiting of different kinds into seconds before a first token; each says why it is what it is."""

    routes: Routes = Routes.ANY
    local_prompt_tokens: int | None = None
    """None: costs decide. A number is a fixed border instead: up to so many uncached tokens stay on decode."""
    damage_weight: float = 0.25
    """A second by which a running answer is delayed. It is spread over many tokens, so it hurts less than a second
    before the first token; an idle decode worker is about to have answers, so one more is counted than there are."""
    dual_damage_weight: float = 0.12
    """The same on workers that also read for others: there some answer is held up wherever a prompt is read. From
    replaying bursts at half load: with 0.25 they stood in line for two seconds before the four readers that had their
    beginning, because the other four had eighty answers each; with 0.06 conversations wait a twelfth longer."""
    answers_fade_s: float = 2.0
    """A prompt meets a worker's own answers only if its turn comes soon; after a longer queue, as many as are usual.
    From replaying all traces at 95 % load on workers that do both: with 0.5 conversations wait a seventh longer, and
    documents' longest a quarter."""
    queue_weight: float = 0.4
    """A second behind others. Less than a second of reading, because a queue passes by itself, and a prefix that is
    read twice takes room from another."""
    patience_s: float = 2.0
    """Waiting that a prompt which is cached whole is worth, and one that is cached in part its share of it, against a
    reader that has nothing of it; against one that has a part, the difference. By what a queue is longer still, counts
    in full."""
    others_weight: float = 4.0
    """A second of reading, for all who come later; grows as 1 / (1 - rho) with the share of time that reading takes.
    From replaying conversations: with less, hits fall below 95 % of those of one shared cache, and nobody is faster."""
    gap_weight: float = 2.0
    """A second between the first token and the second: a stream that has begun and stalls. And what a hand-over costs
    beside: pages on two workers, two queues to wait in. From replaying at 95 % load on workers that can do both: with
    3.0 conversations wait a fortieth longer, searches a twentieth; with 1.0 short questions stand behind documents."""
    reuse_share: float = 0.25
    """Cached tokens that would have been found again, of those that a hand-over pushes out."""
    write_weight: float = 0.04
    """A second of writing: readers read along, and most tokens come faster than they are read. From replaying: with 0.1
    conversations at 95 % load wait a twentieth longer."""
    slows_weight: float = 4.0
    """A second of reading that a writer does not get done, for each prompt that waits and 1 / (1 - rho) that come
    later: rho knows what reading takes of a worker's time and not what its answers take, so it is far too low where
    workers do both. From replaying at full load on workers that do both: with 1.0 documents' first tokens come a
    quarter later; with 6.0 conversations' come a seventh later than where every prompt is handed over."""
    balance_weight: float = 0.75
    """A second of reading placed on a worker lately, more than on its least loaded peer that reads as fast. From
    replaying conversations over eight caches: 98 % of the hits of one shared cache at an imbalance of 4 %, where pages
    are fetched from each other; where they are not, 0.25 finds more."""
    slow_start_s: float = 10.0
    """Longest time that a newcomer is spared: how long it came behind the oldest of its role, at most this."""
    slow_start_penalty_s: float = 0.5
    full_s: float = 0.5
    """Cost of a full pool with all growth foreseen: preemption. Scaled by the square of the share in use."""
    silence_s: float = 1.0
    """Silence that is not suspicious: two heartbeats. Each further second costs one."""
    expected_tokens: int = 256
    """Length of an answer where nobody told how long they are of late; its own limit where that is lower. And how long
    a worker that begins to write goes on with it. From replaying documents, whose answers have 70 tokens, at 95 % load:
    with those 70 in its place first tokens come a tenth later."""
    prefill_chunk_tokens: int = 256
    extend_tokens: int = 64
    """Most tokens of local prompts in a step beside running answers, and when none run."""
    idle_extend_tokens: int = 256
    extend_itl_s: float = 0.05
    """Time between tokens that decode workers keep while they read local prompts."""
    itl_s: Mapping[Priority, float] = field(default_factory=_itl_targets)
    """Time between tokens that a class is promised: decode workers are not filled beyond it."""
    min_batch: int = 4
    """Answers side by side that are allowed whatever they cost: a slow machine still serves."""
    min_cost_steps: int = 32
    """Steps that a worker's own cost model must know."""
    stale_cost_s: float = 600.0
    """Age from which a model is not believed: a worker that was slow once and is avoided since gets another chance."""
    best_few: int = 4
    """Readers and writers that are combined: their sum is weighed exactly, that of the others is not."""
