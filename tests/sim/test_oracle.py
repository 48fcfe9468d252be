"""The oracle and the engine's own reference, which share no code, agree; and storms meet what they are made for."""

import random
from collections import Counter

from tests.engine.rig import generate, work
from tests.sim.asks import random_asks
from tests.sim.oracle import Ask, answer
from tests.sim.storm import storm

SEEDS = range(25)
"""Measured: nine have met everything."""


def test_the_oracle_agrees_with_the_batch_alone() -> None:
    """Greedy and seeded; the batch computes pages, the oracle a list."""
    for ask in random_asks(random.Random(1), 40, max_pages=56):
        if ask.stop_tokens or ask.stop_strings or ask.n > 1:
            continue
        plain = Ask(
            name=ask.name,
            prompt=ask.prompt,
            max_tokens=ask.max_tokens,
            temperature=ask.temperature,
            seed=ask.seed,
        )
        given = work(ask.name, list(ask.prompt), max_tokens=ask.max_tokens, temperature=ask.temperature, seed=ask.seed)
        assert tuple(generate(given)[0]) == answer(plain)[0].tokens


def test_storms_meet_what_they_are_made_for() -> None:
    """A storm that never preempts, evicts, refuses or breaks anything would prove nothing."""
    wanted = {
        "decode preemptions",
        "decode evictions",
        "decode promises_refused",
        "decode aborted",
        "decode recomputed_tokens",
        "decode promises_released",
        "prefill evictions",
        "prefill staging_waits",
        "prefill aborted",
        "sent failed",
        "received failed",
        "received digest_mismatch",
        "superseded",
    }
    met: Counter[str] = Counter()
    for seed in SEEDS:
        met.update(storm(seed).census)
        wanted -= {name for name in wanted if met[name]}
        if not wanted:
            return
    raise AssertionError(f"{sorted(wanted)} are not among {sorted(met.items())}")
