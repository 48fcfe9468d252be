"""Metrics under vLLM's names too, for pickers and dashboards that know only those. Only where the meaning is the same.

Gauges are a worker's: a picker reads them per pod (Gateway API Inference Extension, model server protocol). What is
told of whole requests is a router's, so that a sum over all pods counts each once. Every series has vLLM's label
`model_name`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client.metrics_core import Metric as Family

from common.observe import catalogue as c
from common.observe.metric import Metric, MetricKind, ProcessRole

PREFIX = "vllm:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """One of vLLM's metrics: the sum of ours over all labels but those it keeps.

    `keeps`: our label's name to theirs. `is_sum`: a counter made of what a histogram of ours has summed up.
    """

    name: str
    metric: Metric
    role: frozenset[ProcessRole]
    keeps: Mapping[str, str] = field(default_factory=dict)
    is_sum: bool = False

    @property
    def kind(self) -> MetricKind:
        return MetricKind.COUNTER if self.is_sum else self.metric.kind


def _worker(name: str, metric: Metric) -> Alias:
    return Alias(name=name, metric=metric, role=c.WORKERS)


def _router(name: str, metric: Metric, *, is_sum: bool = False, **keeps: str) -> Alias:
    return Alias(name=name, metric=metric, role=c.ROUTER, keeps=keeps, is_sum=is_sum)


ALIASES = (
    # The three of the Inference Extension; vLLM renamed the second one.
    _worker("num_requests_waiting", c.WAITING_REQUESTS),
    _worker("kv_cache_usage_perc", c.KV_USAGE),
    _worker("gpu_cache_usage_perc", c.KV_USAGE),
    _worker("num_requests_running", c.RUNNING_SEQUENCES),
    _worker("num_preemptions_total", c.PREEMPTIONS),
    _router("prompt_tokens_total", c.PROMPT_LENGTH, is_sum=True),
    _router("generation_tokens_total", c.GENERATED_TOKENS),
    _router("request_success_total", c.CHOICES_FINISHED, reason="finished_reason"),
    _router("request_prompt_tokens", c.PROMPT_LENGTH),
    _router("request_generation_tokens", c.OUTPUT_LENGTH),
    _router("time_to_first_token_seconds", c.TTFT_SECONDS),
    _router("inter_token_latency_seconds", c.ITL_SECONDS),
    # Its older name.
    _router("time_per_output_token_seconds", c.ITL_SECONDS),
    _router("e2e_request_latency_seconds", c.E2E_SECONDS),
    _router("request_queue_time_seconds", c.QUEUE_SECONDS),
    _router("request_prefill_time_seconds", c.PREFILL_SECONDS),
)


class Source(Protocol):
    """What prometheus_client's counters, gauges and histograms have in common."""

    def collect(self) -> Iterable[Family]: ...


class VllmNames:
    """A collector for prometheus_client's registry: reads ours at each scrape, and keeps nothing."""

    def __init__(self, role: ProcessRole, model: str, sources: Mapping[str, Source]) -> None:
        self._role = role
        self._model = model
        self._sources = sources

    def collect(self) -> Iterator[Family]:
        for alias in ALIASES:
            if self._role in alias.role:
                yield self._family(alias)

    def _family(self, alias: Alias) -> Family:
        base = alias.name.removesuffix("_total")
        told = Family(f"{PREFIX}{base}", f"As {alias.metric.name}. {alias.metric.sentence}", alias.kind.value)
        totals: dict[tuple[str, tuple[tuple[str, str], ...]], float] = defaultdict(float)
        for family in self._sources[alias.metric.name].collect():
            for sample in family.samples:
                suffix = sample.name.removeprefix(alias.metric.name)
                if alias.is_sum and suffix != "_sum":
                    continue
                kept = tuple((theirs, sample.labels[ours]) for ours, theirs in alias.keeps.items())
                edge = (("le", sample.labels["le"]),) if suffix == "_bucket" else ()
                totals["" if alias.is_sum else suffix, kept + edge] += sample.value
        for (suffix, labels), value in totals.items():
            told.add_sample(f"{PREFIX}{alias.name}{suffix}", {"model_name": self._model, **dict(labels)}, value)
        return told
