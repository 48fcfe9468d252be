"""Whatever goes wrong, every stream is exact and nothing is left behind. One seed, one story, told the same every time.

pytest tests/sim/test_storm.py -k "storm and 17"      one seed again; its failure prints the end of the trace
pytest tests/sim/test_storm.py -m slow -n 2           the long run: 600 more seeds
"""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.sim.storm import storm

FIXED = range(120)
AHEAD = range(30)
LAYERS = range(40)
RINGS = range(16)
LONG = range(120, 720)


@pytest.mark.parametrize("seed", FIXED)
def test_storm(seed: int) -> None:
    """Exact streams, pages that sum up, transfers and requests that balance, a directory that tells the truth."""
    storm(seed)


@pytest.mark.parametrize("seed", AHEAD)
def test_storm_with_steps_ahead(seed: int) -> None:
    storm(seed, is_ahead=True)


@pytest.mark.parametrize("seed", LAYERS)
def test_storm_that_ships_layer_by_layer(seed: int) -> None:
    storm(seed, layer_groups=2)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """In a service it looks once in a thousand requests: what a cycle keeps until then is as good as leaked."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("seed", RINGS)
def test_storm_over_shared_memory(seed: int) -> None:
    """Production's rings, their slots lent to whoever gathers: every slot comes back, and no pair that is over keeps
    its memory."""
    storm(seed, num_slots=4 if seed % 2 else 2)


@pytest.mark.slow
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("seed", LONG)
def test_long_storm_over_shared_memory(seed: int) -> None:
    storm(seed, num_slots=4, layer_groups=1 + seed % 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", LONG)
def test_long_storm_that_ships_layer_by_layer(seed: int) -> None:
    storm(seed, layer_groups=2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", LONG)
def test_long_storm_with_steps_ahead(seed: int) -> None:
    storm(seed, is_ahead=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", LONG)
def test_long_storm(seed: int) -> None:
    """The same for more seeds than a quick run has time for."""
    storm(seed)


@pytest.fixture(scope="module")
def first_digest() -> str:
    return storm(7).digest()


def test_a_seed_tells_the_same_story_twice(first_digest: str) -> None:
    """Every token, fault and log line at the same virtual time."""
    assert storm(7).digest() == first_digest
    assert storm(8).digest() != first_digest


def test_a_seed_tells_the_same_story_in_another_process(first_digest: str) -> None:
    """Nothing depends on addresses in memory or on the hashes of strings, which differ between processes."""
    program = "from tests.sim.storm import storm; print(storm(7).digest())"
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": "."}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.strip() == first_digest
