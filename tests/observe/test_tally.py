"""Goal: what is gathered and told in bulk is what would have been told one by one. Method: both, side by side."""

import random
import threading

from common.observe import catalogue
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.observe.tally import MAX_GATHERED

SEED = 4


def itl_lines(metrics: Metrics) -> list[str]:
    return [line for line in metrics.render().decode().splitlines() if line.startswith("baton_inter_token")]


def test_a_histogram_told_in_bulk_is_the_one_told_one_by_one() -> None:
    """Values on the edges of buckets, beyond the last one and between, many more than are gathered."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    edges = [*catalogue.ITL_SECONDS.buckets, 1e6, 0.0]
    bulk, single = Metrics(ProcessRole.ROUTER), Metrics(ProcessRole.ROUTER)
    observe = bulk.observer(catalogue.ITL_SECONDS, priority="standard")
    for _ in range(3 * MAX_GATHERED + 7):
        value = chance.choice((chance.choice(edges), 2.0 ** chance.randint(-12, 3)))  # sums of these have no rounding
        observe(value)
        single.observe(catalogue.ITL_SECONDS, value, priority="standard")
    assert bulk.quantile(catalogue.ITL_SECONDS, 0.9) == single.quantile(catalogue.ITL_SECONDS, 0.9)
    shown, wanted = itl_lines(bulk), itl_lines(single)
    assert len(shown) > len(edges)
    for line, other in zip(shown, wanted, strict=True):
        assert (name := line.rpartition(" "))[0] == other.rpartition(" ")[0]
        assert abs(float(name[2]) - float(other.rpartition(" ")[2])) < 1e-6


def test_every_way_of_reading_sees_what_was_noted_last() -> None:
    metrics = Metrics(ProcessRole.ROUTER)
    count = metrics.adder(catalogue.GENERATED_TOKENS)
    count(2)
    assert metrics.value(catalogue.GENERATED_TOKENS) == 2
    count(3)
    assert metrics.total(catalogue.GENERATED_TOKENS) == 5
    count(4)
    assert b'baton_generated_tokens_total{role="router"} 9.0' in metrics.render()


def test_whoever_asks_for_a_series_again_notes_into_the_same_one() -> None:
    """Each request asks: what is kept does not grow with them."""
    metrics = Metrics(ProcessRole.ROUTER)
    assert metrics.adder(catalogue.GENERATED_TOKENS) == metrics.adder(catalogue.GENERATED_TOKENS)


def test_threads_lose_nothing_while_others_read() -> None:
    metrics = Metrics(ProcessRole.ROUTER)
    count = metrics.adder(catalogue.GENERATED_TOKENS)

    def run() -> None:
        for _ in range(20_000):
            count(1)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        metrics.value(catalogue.GENERATED_TOKENS)
    assert metrics.value(catalogue.GENERATED_TOKENS) == 60_000
