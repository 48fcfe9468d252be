"""Loads of the planner's comparison, each under seeds: two recorded ones, and one that nobody recorded.

- azure: Azure's code trace, inter-arrival CV 13; seed 0 as recorded, others with every arrival moved towards the next
- day: conversation requests as a day of one hour whose rate swings by ten
- regimes: an hour in which the rate jumps every three to ten minutes, arrivals with a CV of 2, long-tailed prompts
  that have nothing in common. It was not played while the planner's constants were chosen on the other two.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.simulator.arrivals import spread
from services.simulator.diurnal import diurnal
from services.simulator.read import read_trace
from services.simulator.scaling_play import Replicas
from services.simulator.trace import Trace, TraceRequest, in_order

SPAN_S = 3600.0
MAX_PROMPT_TOKENS = 16_000
PAGE_SIZE = 512
MEAN_RATE = 3.5
BURSTY_SHAPE = 0.25
"""Of the gamma distribution between arrivals: a CV of 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """`most` machines of each role there are."""

    trace: Trace
    most: Replicas


def azure(traces: Path, seed: int) -> Workload:
    trace = read_trace(traces / "azure2023_code.csv")
    return Workload(trace=spread(trace, seed=seed) if seed else trace, most=Replicas(prefill=12, decode=8))


def day(traces: Path, seed: int) -> Workload:
    trace = read_trace(traces / "mooncake_conversation.jsonl")
    squeezed = diurnal(trace, seed=seed, span_s=SPAN_S, max_prompt_tokens=MAX_PROMPT_TOKENS)
    return Workload(trace=squeezed, most=Replicas(prefill=8, decode=6))


def regimes(_traces: Path, seed: int) -> Workload:
    chance = random.Random(seed)
    trace = in_order(f"regimes, seed {seed}", PAGE_SIZE, list(_jumping(chance)))
    return Workload(trace=trace, most=Replicas(prefill=12, decode=8))


WORKLOADS: Mapping[str, Callable[[Path, int], Workload]] = {"azure": azure, "day": day, "regimes": regimes}


def _jumping(chance: random.Random) -> Iterator[TraceRequest]:
    at_s, next_page = 0.0, 0
    change_s, rate = 0.0, MEAN_RATE
    while True:
        if at_s >= change_s:
            change_s = at_s + chance.uniform(180.0, 600.0)
            # The mean of a log-normal factor is exp(sigma^2 / 2): taken out again.
            rate = MEAN_RATE * math.exp(chance.gauss(0.0, 0.8) - 0.32)
        at_s += chance.gammavariate(BURSTY_SHAPE, 1.0 / (BURSTY_SHAPE * rate))
        if at_s >= SPAN_S:
            return
        prompt = int(min(max(chance.lognormvariate(math.log(3500), 0.9), 16), MAX_PROMPT_TOKENS))
        answer = int(min(max(chance.lognormvariate(math.log(150), 0.8), 2), 800))
        pages = tuple(range(next_page, next_page + prompt // PAGE_SIZE))
        next_page += len(pages)
        yield TraceRequest(arrived_s=at_s, prompt_tokens=prompt, output_tokens=answer, pages=pages)
