"""What a scrape of a worker shows."""

from collections import Counter
from dataclasses import replace

from common.core.worker import LoadReport, PageCounts
from common.engine.look import Look
from common.observe import catalogue
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.transfer.counters import TransferCounters
from common.transfer.endpoint import TransferSnapshot
from common.transfer.setbacks import SetbackCause
from common.worker.gauges import COUNTERS, LINK_CAUSES, WorkerGauges
from tests.worker.scene import LAYOUT

CHANNEL = {"channel": "gloo", "direction": "sent"}


def look(*, referenced: int, empty_slots: int, reservations: int = 0) -> Look:
    pages = PageCounts(total=8, free=8 - referenced, promised=0, referenced=referenced, cached=0)
    return Look(load=LoadReport(pages=pages, steps=0), counters={}, empty_slots=empty_slots, reservations=reservations)


def transfers(sent: TransferCounters) -> TransferSnapshot:
    return TransferSnapshot(
        channels=("nccl", "gloo"),
        sent=sent.snapshot(),
        received=TransferCounters().snapshot(),
        links=1,
        inlets=0,
        links_over=Counter(gloo=1),
        inlets_over=Counter(),
        expected=0,
        lent_arrivals=0,
        free_staging=0,
        background_tasks=0,
    )


def test_empty_slots_and_open_promises_are_shown() -> None:
    metrics = Metrics(ProcessRole.DECODE)
    gauges = WorkerGauges(metrics, LAYOUT)
    sent = TransferCounters()
    gauges.show(look(referenced=2, empty_slots=8, reservations=3), transfers(sent), num_subscriptions=0)
    assert metrics.value(catalogue.PAGE_FRAGMENTATION) == 8 / (2 * LAYOUT.page_size)
    assert metrics.value(catalogue.RESERVATIONS) == 3
    gauges.show(look(referenced=0, empty_slots=0), transfers(sent), num_subscriptions=0)
    assert metrics.value(catalogue.PAGE_FRAGMENTATION) == 0


def test_each_run_of_pages_is_observed_once() -> None:
    metrics = Metrics(ProcessRole.PREFILL)
    gauges = WorkerGauges(metrics, LAYOUT)
    sent = TransferCounters()
    for count in (3, 0, 2):
        for _ in range(count):
            sent.of("gloo").moved(1, 256, 0.01)
        gauges.show(look(referenced=0, empty_slots=0), transfers(sent), num_subscriptions=0)
    assert metrics.value(catalogue.TRANSFER_SECONDS, **CHANNEL) == 5
    assert metrics.value(catalogue.TRANSFER_BYTES, **CHANNEL) == 5 * 256


def test_what_carries_pairs_is_shown_and_why_nothing_better_does() -> None:
    metrics = Metrics(ProcessRole.PREFILL)
    gauges = WorkerGauges(metrics, LAYOUT)
    sent = TransferCounters()
    sent.passed_over["nccl", SetbackCause.SILENT] += 2
    for _ in range(2):
        gauges.show(look(referenced=0, empty_slots=0), transfers(sent), num_subscriptions=0)
    assert metrics.value(catalogue.TRANSFER_LINKS, **CHANNEL) == 1
    assert metrics.value(catalogue.TRANSFER_LINKS, channel="nccl", direction="sent") == 0
    assert metrics.value(catalogue.CHANNELS_PASSED_OVER, channel="nccl", cause="silent") == 2


def test_what_a_life_that_is_over_offers_is_shown_as_refused() -> None:
    metrics = Metrics(ProcessRole.DECODE)
    gauges = WorkerGauges(metrics, LAYOUT)
    received = TransferCounters()
    received.incidents["fenced"] += 3
    shown = replace(transfers(TransferCounters()), received=received.snapshot())
    for _ in range(2):
        gauges.show(look(referenced=0, empty_slots=0), shown, num_subscriptions=0)
    assert metrics.value(catalogue.STALE_REFUSED, fence="transfer") == 3


def test_every_cause_has_its_label_and_every_label_its_cause() -> None:
    assert set(catalogue.CHANNELS_PASSED_OVER.labels[1].values) == {cause.value for cause in SetbackCause}
    assert set(catalogue.LINKS_CLOSED.labels[0].values) == set(LINK_CAUSES.values())
    ends = {labels["outcome"] for metric, labels in COUNTERS.values() if metric is catalogue.RESERVATIONS_ENDED}
    assert set(catalogue.RESERVATIONS_ENDED.labels[0].values) == ends
