"""Goal: numbers are right, labels stay bounded, wrong use is caught at once."""

import threading

import pytest

from common.observe import catalogue
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics


def test_a_counter_shows_zero_before_its_first_event() -> None:
    text = Metrics(ProcessRole.DECODE).render().decode()
    assert 'baton_preemptions_total{role="decode"} 0.0' in text
    assert 'baton_pages{role="decode",state="free"} 0.0' in text
    assert "_created" not in text
    assert "baton_time_to_first_token" not in text


def test_values_can_be_read_back_by_label_and_in_total() -> None:
    metrics = Metrics(ProcessRole.PREFILL)
    metrics.add(catalogue.TRANSFER_BYTES, 100, channel="gloo", direction="sent")
    metrics.add(catalogue.TRANSFER_BYTES, 11, direction="received", channel="gloo")
    metrics.add(catalogue.TRANSFER_BYTES, 5, channel="gloo", direction="sent")
    assert metrics.value(catalogue.TRANSFER_BYTES, channel="gloo", direction="sent") == 105
    assert metrics.total(catalogue.TRANSFER_BYTES) == 116


def test_two_processes_in_one_interpreter_do_not_share_numbers() -> None:
    one, two = Metrics(ProcessRole.ROUTER), Metrics(ProcessRole.ROUTER)
    one.add(catalogue.REQUESTS_RECEIVED)
    assert (one.value(catalogue.REQUESTS_RECEIVED), two.value(catalogue.REQUESTS_RECEIVED)) == (1, 0)


def test_a_quantile_is_the_edge_of_its_bucket() -> None:
    metrics = Metrics(ProcessRole.ROUTER)
    assert metrics.quantile(catalogue.ITL_SECONDS, 0.5) is None
    for seconds in [0.004] * 90 + [0.6] * 9 + [100.0]:
        metrics.observe(catalogue.ITL_SECONDS, seconds, priority="standard")
    assert metrics.quantile(catalogue.ITL_SECONDS, 0.5) == 0.005
    assert metrics.quantile(catalogue.ITL_SECONDS, 0.95) == 1
    assert metrics.quantile(catalogue.ITL_SECONDS, 1.0) == 5
    assert metrics.quantiles(catalogue.ITL_SECONDS, 0.5, 1.0) == [0.005, 5]
    assert metrics.value(catalogue.ITL_SECONDS, priority="standard") == 100


def test_an_open_label_ends_in_other() -> None:
    metrics = Metrics(ProcessRole.ROUTER)
    for number in range(1000):
        metrics.add(catalogue.RPCS, method=f"m{number}", code="OK")
    assert metrics.value(catalogue.RPCS, method="other", code="OK") == 1000 - 48
    assert metrics.render().count(b"baton_rpcs_total{") == 49


def test_wrong_use_is_an_assertion() -> None:
    metrics = Metrics(ProcessRole.ROUTER)
    with pytest.raises(AssertionError, match="not a metric of the router"):
        metrics.add(catalogue.PREEMPTIONS)
    with pytest.raises(AssertionError, match="no value of priority"):
        metrics.observe(catalogue.ITL_SECONDS, 1, priority="urgent")
    with pytest.raises(AssertionError, match="has the labels"):
        metrics.observe(catalogue.ITL_SECONDS, 1)
    with pytest.raises(AssertionError, match="not a counter"):
        metrics.add(catalogue.REQUESTS_IN_FLIGHT)
    with pytest.raises(AssertionError, match="set to -1"):
        metrics.set(catalogue.REQUESTS_IN_FLIGHT, -1)
    with pytest.raises(ValueError, match="incremented"):
        metrics.add(catalogue.REQUESTS_RECEIVED, -1)


def test_threads_do_not_lose_counts() -> None:
    metrics = Metrics(ProcessRole.DECODE)

    def count() -> None:
        for _ in range(2000):
            metrics.add(catalogue.GENERATED_TOKENS)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert metrics.value(catalogue.GENERATED_TOKENS) == 8000
