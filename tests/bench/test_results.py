"""What is kept of a run, and how samples become medians."""

import json

import pytest

from common.core.errors import InvalidRequest
from services.local.bench.public import public_words
from services.local.bench.results import read_results, summarise
from services.local.bench.sample import MAX_FOREIGN, Sample
from services.local.bench.spread import Spread


def sample(value: float, *, foreign: float = 0.0, error: str = "") -> dict[str, object]:
    figures = {} if error else {"tok_s": value}
    return Sample(
        contender="engine",
        workload="decode_8",
        parameters={"num_streams": 8},
        round=0,
        attempt=0,
        foreign=foreign,
        steal=0.0,
        own=0.9,
        figures=figures,
        error=error,
    ).as_json()


def test_percentiles_are_values_that_were_measured():
    spread = Spread.of([float(value) for value in range(1, 101)])
    assert spread is not None
    assert (spread.count, spread.p50, spread.p90, spread.p99, spread.max) == (100, 50.0, 90.0, 99.0, 100.0)
    assert Spread.of([]) is None


def test_spoiled_samples_are_left_out_where_a_clean_one_exists():
    lines = [sample(100), sample(10, foreign=2 * MAX_FOREIGN)]
    (summary,) = summarise(lines)
    assert (summary.median, summary.low, summary.count, summary.num_clean) == (100, 100, 1, 1)


def test_spoiled_samples_count_where_there_is_nothing_better_and_it_shows():
    (summary,) = summarise([sample(100, foreign=0.5), sample(10, foreign=1.0)])
    assert (summary.count, summary.num_clean) == (2, 0)


def test_a_failed_sample_has_no_figure():
    assert summarise([sample(0, error="no answer")]) == ()


def test_a_results_file_reads_back(tmp_path):
    file = tmp_path / "results.jsonl"
    file.write_text("".join(json.dumps(sample(value)) + "\n" for value in (1, 2, 3)))
    (summary,) = summarise(read_results(file))
    assert summary.median == 2


def test_what_is_no_results_file_is_refused(tmp_path):
    file = tmp_path / "results.jsonl"
    file.write_text("not JSON\n")
    with pytest.raises(InvalidRequest):
        read_results(file)


def test_results_do_not_tell_where_things_lie_on_this_machine():
    words = [
        "bench",
        "decode",
        "--model",
        "/home/me/models/S",
        "--set",
        "model.path=/home/me/models/S",
        "--rounds",
        "3",
    ]
    assert public_words(words) == "bench decode --model S --set model.path=S --rounds 3"
