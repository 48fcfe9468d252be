"""Made workloads are traces like recorded ones, the same for a seed, and have the shape that their name says."""

from pathlib import Path

import pytest

from services.simulator.ceiling import hit_ceiling
from services.simulator.read import read_trace
from tests.bench.made_traces import SHAPES, make, write

ENDLESS = 1 << 40


@pytest.mark.parametrize("shape", SHAPES)
def test_a_made_workload_is_read_as_a_trace(shape: str, tmp_path: Path) -> None:
    path = tmp_path / f"{shape}.jsonl"
    write(make(shape, 120, seed=3), path)
    assert make(shape, 120, seed=3) == make(shape, 120, seed=3)
    assert make(shape, 120, seed=4) != make(shape, 120, seed=3)
    trace = read_trace(path)
    assert len(trace.requests) == 120
    for request in trace.requests:
        assert len(request.pages) == request.prompt_tokens // trace.page_size


def test_agents_come_back_to_what_they_said_and_documents_do_not(tmp_path: Path) -> None:
    found = {}
    for shape in ("agents", "documents"):
        path = tmp_path / f"{shape}.jsonl"
        write(make(shape, 400, seed=1), path)
        found[shape] = hit_ceiling(read_trace(path), ENDLESS)
    assert found["agents"] > 0.7
    assert found["documents"] < 0.1
