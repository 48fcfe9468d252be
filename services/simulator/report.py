"""What a simulation says in numbers: one row per policy, the same names in table, JSON and plots."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.simulator.outcome import Outcome, Served


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """What a good answer is: its first token this soon, and on average no slower than this from token to token."""

    ttft_s: float = 5.0
    itl_s: float = 0.1

    def is_met(self, served: Served) -> bool:
        """Refused and unfinished requests meet nothing."""
        if served.ttft_s is None or served.finished is None:
            return False
        return served.ttft_s <= self.ttft_s and (served.itl_s or 0.0) <= self.itl_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One policy on one trace under one seed. Seconds; shares from 0 to 1; None where nothing was measured.

    Times are those of requests that were served, so turning more of them away flatters all the rest: whoever compares
    times compares `served_share` beside them.
    """

    policy: str
    seed: int
    num_requests: int
    num_finished: int
    num_refused: int
    num_bounced: int
    """Placements that a worker refused: tried again."""
    goodput_per_s: float | None
    """Requests within the objectives, per second of arrivals; None where all came at once."""
    good_share: float
    ttft_s_mean: float | None
    ttft_s_p50: float | None
    ttft_s_p99: float | None
    itl_s_p50: float | None
    itl_s_p99: float | None
    hit_rate: float
    """Share of prompt tokens found in the cache of whoever read them."""
    hit_ceiling: float
    imbalance: float
    """Uncached prompt tokens of the busiest machine, relative to the mean of those that read prompts."""
    remote_share: float
    steps: int
    preemptions: int

    @property
    def served_share(self) -> float:
        """Requests that have their whole answer, of all that were asked."""
        return self.num_finished / max(self.num_requests, 1)


def summarize(outcome: Outcome, *, seed: int, slo: Slo, hit_ceiling: float, span_s: float) -> Summary:
    """Every number of one run. `span_s`: over which the requests arrived."""
    served, machines = outcome.served, outcome.machines
    ttfts = sorted(each.ttft_s for each in served if each.ttft_s is not None)
    num_good = sum(map(slo.is_met, served))
    prompt_tokens = sum(machine.prompt_tokens for machine in machines)
    uncached = [machine.uncached_tokens for machine in machines if machine.prompt_tokens]
    started = [each for each in served if each.first_token is not None]
    return Summary(
        policy=outcome.policy,
        seed=seed,
        num_requests=len(served),
        num_finished=sum(each.finished is not None for each in served),
        num_refused=sum(each.is_refused for each in served),
        num_bounced=outcome.num_bounced,
        goodput_per_s=num_good / span_s if span_s else None,
        good_share=num_good / max(len(served), 1),
        ttft_s_mean=sum(ttfts) / len(ttfts) if ttfts else None,
        ttft_s_p50=quantile(ttfts, 0.5),
        ttft_s_p99=quantile(ttfts, 0.99),
        itl_s_p50=outcome.gaps.quantile(0.5),
        itl_s_p99=outcome.gaps.quantile(0.99),
        hit_rate=1.0 - sum(uncached) / prompt_tokens if prompt_tokens else 0.0,
        hit_ceiling=hit_ceiling,
        imbalance=max(uncached) * len(uncached) / max(sum(uncached), 1) if uncached else 0.0,
        remote_share=sum(each.is_remote for each in started) / max(len(started), 1),
        steps=sum(machine.steps for machine in machines),
        preemptions=sum(machine.preemptions for machine in machines),
    )


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The value below which this share lies, of values in order; None of none."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None
