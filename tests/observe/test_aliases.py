"""Goal: who knows only vLLM's names reads the same numbers under them, each request once."""

import re

from prometheus_client.parser import text_string_to_metric_families

from common.observe import catalogue
from common.observe.aliases import ALIASES
from common.observe.metric import MetricKind, ProcessRole
from common.observe.registry import Metrics
from tests.architecture.source import ROOT

PICKERS = {"num_requests_waiting", "num_requests_running", "kv_cache_usage_perc"}
"""What the Gateway API Inference Extension's model server protocol asks of every server."""


def told(metrics: Metrics) -> dict[str, float]:
    """Samples under vLLM's names, as a scraper parses them; labels but the model's name in braces."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            if sample.name.startswith("vllm:"):
                labels = dict(sample.labels)
                assert labels.pop("model_name") == "demo"
                rest = ",".join(f"{name}={value}" for name, value in labels.items())
                found[sample.name + (f"{{{rest}}}" if rest else "")] = sample.value
    return found


def test_a_worker_tells_a_picker_its_queue_its_cache_and_its_batch() -> None:
    metrics = Metrics(ProcessRole.DECODE)
    metrics.speak_vllm("demo")
    metrics.set(catalogue.WAITING_REQUESTS, 3)
    metrics.set(catalogue.KV_USAGE, 0.25)
    metrics.set(catalogue.RUNNING_SEQUENCES, 7)
    samples = told(metrics)
    assert samples.pop("vllm:num_preemptions_total") == 0
    assert samples == {
        "vllm:num_requests_waiting": 3,
        "vllm:kv_cache_usage_perc": 0.25,
        "vllm:gpu_cache_usage_perc": 0.25,
        "vllm:num_requests_running": 7,
    }


def test_a_router_tells_of_whole_requests_summed_over_what_vllm_does_not_tell_apart() -> None:
    metrics = Metrics(ProcessRole.ROUTER)
    metrics.speak_vllm("demo")
    for priority, seconds in (("interactive", 0.25), ("batch", 0.25), ("batch", 3.0)):
        metrics.observe(catalogue.TTFT_SECONDS, seconds, priority=priority)
    metrics.observe(catalogue.PROMPT_LENGTH, 100)
    metrics.observe(catalogue.PROMPT_LENGTH, 20)
    metrics.add(catalogue.GENERATED_TOKENS, 9)
    metrics.add(catalogue.CHOICES_FINISHED, 2, reason="stop")
    samples = told(metrics)
    assert samples["vllm:time_to_first_token_seconds_count"] == 3
    assert samples["vllm:time_to_first_token_seconds_sum"] == 3.5
    assert samples["vllm:time_to_first_token_seconds_bucket{le=0.5}"] == 2
    assert samples["vllm:time_to_first_token_seconds_bucket{le=+Inf}"] == 3
    assert samples["vllm:prompt_tokens_total"] == 120
    assert samples["vllm:generation_tokens_total"] == 9
    assert samples["vllm:request_success_total{finished_reason=stop}"] == 2
    assert not any("num_requests" in name for name in samples), "gauges are the workers'"


def test_nobody_speaks_it_unasked() -> None:
    assert b"vllm:" not in Metrics(ProcessRole.DECODE).render()


def test_no_name_is_given_twice_to_one_process() -> None:
    for role in ProcessRole:
        names = [alias.name for alias in ALIASES if role in alias.role]
        assert len(names) == len(set(names))
        assert all(role in alias.metric.roles for alias in ALIASES if role in alias.role)


def test_what_pickers_ask_for_is_told_by_workers_as_gauges_and_is_in_the_documents() -> None:
    told_by_workers = {alias.name for alias in ALIASES if alias.kind is MetricKind.GAUGE}
    assert told_by_workers >= PICKERS
    named = set(re.findall(r"`vllm:([a-z0-9_]+)`", (ROOT / "docs/kubernetes.md").read_text()))
    assert PICKERS <= named <= {alias.name for alias in ALIASES}
